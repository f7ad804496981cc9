"""Keys and signatures: against RFC 8032, and against everything that is nearly one."""

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigError
from shared.signing import is_signed, load_key, make_key, public_key, sign
from tests.shared.books import KEY, OTHER_KEY

SECRET = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"  # noqa: S105
PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
OF_R = (  # RFC 8032, section 7.1, test 2: the one byte 0x72
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
SAID = "tacit ledger entry\nnorth\n0\nab"
ORDER = 2**252 + 27742317777372353535851937790883648493  # of Ed25519's group


def test_a_signature_is_the_one_of_the_rfc() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(SECRET))

    assert public_key(key) == PUBLIC
    assert sign(key, "r") == OF_R
    assert is_signed(PUBLIC, "r", OF_R)


@given(at=st.integers(0, 127), digit=st.sampled_from("0123456789abcdefABCDEF ~\x00é"))
def test_a_signature_with_one_digit_changed_is_refused(at: int, digit: str) -> None:
    """Also where another way to write the same digit would do for a laxer reader."""
    signature = sign(KEY, SAID)
    changed = signature[:at] + digit + signature[at + 1 :]

    assert is_signed(public_key(KEY), SAID, changed) == (changed == signature)


@pytest.mark.parametrize("odd", ["", "ab", "zz" * 64, "00" * 64, "ab" * 65, "ab " * 64])
def test_what_is_no_signature_is_refused(odd: str) -> None:
    assert not is_signed(public_key(KEY), SAID, odd)


def test_the_same_signature_with_the_groups_order_added_is_refused() -> None:
    """Else anyone could write a second signature of the same line (RFC 8032, 5.1.7)."""
    raw = bytes.fromhex(sign(KEY, SAID))
    scalar = int.from_bytes(raw[32:], "little") + ORDER
    twin = raw[:32] + scalar.to_bytes(32, "little")

    assert not is_signed(public_key(KEY), SAID, twin.hex())


@pytest.mark.parametrize("public", [public_key(OTHER_KEY), "", "ab", "zz" * 32])
def test_another_key_has_not_signed(public: str) -> None:
    assert not is_signed(public, SAID, sign(KEY, SAID))


@pytest.mark.parametrize("text", ["", SAID + " ", SAID[1:], "\ud800"])
def test_another_text_was_not_signed(text: str) -> None:
    assert not is_signed(public_key(KEY), text, sign(KEY, SAID))


def test_a_key_comes_back_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "site.key"

    made = make_key(path)

    assert public_key(load_key(path)) == public_key(made)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [*tmp_path.iterdir()] == [path]


def test_no_two_keys_are_equal(tmp_path: Path) -> None:
    assert public_key(make_key(tmp_path / "a")) != public_key(make_key(tmp_path / "b"))


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    make_key(path)
    before = path.read_bytes()

    with pytest.raises(ConfigError, match="File exists; a key is never replaced"):
        make_key(path)

    assert path.read_bytes() == before


def test_a_key_that_cannot_be_made_durable_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)

    with pytest.raises(ConfigError, match="cannot be made: Input/output error"):
        make_key(tmp_path / "site.key")

    assert [*tmp_path.iterdir()] == []


def test_a_key_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be made: No such file"):
        make_key(tmp_path / "absent" / "site.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o601, 0o666])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "site.key"
    make_key(path)
    path.chmod(mode)

    with pytest.raises(ConfigError, match=f"has mode {mode:03o}.*chmod 600"):
        load_key(path)


@pytest.mark.parametrize("keep", [0, 1, 60, -30])
def test_a_torn_key_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "site.key"
    make_key(path)
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(ConfigError, match=r"cannot be read \(ValueError\)"):
        load_key(path)


def test_a_key_that_is_missing_locked_or_of_another_kind_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "site.key"
    with pytest.raises(ConfigError, match=r"cannot be read \(FileNotFoundError\)"):
        load_key(path)

    locked = BestAvailableEncryption(b"word")
    path.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    with pytest.raises(ConfigError, match=r"cannot be read \(TypeError\)"):
        load_key(path)

    other = X25519PrivateKey.generate()
    path.write_bytes(
        other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(ConfigError, match="is no Ed25519 key"):
        load_key(path)
