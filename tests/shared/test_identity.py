"""A site's identity: signed by its ledger's key, read only as it was signed."""

import re
from base64 import b64decode, b64encode
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.errors import ConfigError
from shared.identity import identity_from, to_text
from shared.invitation import to_text as invitation_text
from shared.signing import public_key
from tests.shared.papers import an_identity, an_invitation, node_line
from tests.standin import key_of

KEY = key_of("north")
SIGNED = to_text(an_identity(), KEY)


@given(site=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True))
def test_any_identity_is_read_as_it_was_written(site: str) -> None:
    identity = an_identity(site)

    assert identity_from(to_text(identity, key_of(site))) == identity


@given(place=st.integers(0, len(SIGNED) - 1), other=st.characters())
def test_any_changed_character_is_refused(place: int, other: str) -> None:
    assume(SIGNED[place] != other)

    with pytest.raises(ConfigError):
        identity_from(SIGNED[:place] + other + SIGNED[place + 1 :])


@pytest.mark.parametrize(
    "changes",
    [{"site": "south"}, {"node": node_line()}, {"ledger": public_key(key_of("south"))}],
    ids=["site", "node", "ledger"],
)
def test_another_value_under_the_same_signature_is_refused(
    changes: dict[str, str],
) -> None:
    signer = key_of("south") if "ledger" in changes else KEY
    forged = to_text(replace(an_identity(), **changes), signer)
    signature = re.search("signature.*", SIGNED)
    assert signature is not None

    with pytest.raises(ConfigError, match="changed on its way"):
        identity_from(re.sub("signature.*", signature[0], forged))


def test_whoever_has_not_the_ledgers_key_cannot_sign() -> None:
    with pytest.raises(ConfigError, match="not its ledger key"):
        to_text(an_identity(), key_of("someone"))


def compressed() -> str:
    """A node key whose point is written the short way, which OpenSSH does not."""
    kind, body = node_line().split()
    content = bytearray(b64decode(body))
    content[-97] = 2  # where 4 says: both coordinates
    return f"{kind} {b64encode(content).decode()}"


@pytest.mark.parametrize(
    "node",
    [
        *("", "ecdsa-sha2-nistp384 AAAA", node_line() + " me@home", node_line() + "\n"),
        *(node_line(ec.SECP256R1()), "# " + node_line(), node_line() * 2),
        compressed(),
    ],
)
def test_a_node_key_is_one_line_of_ecdsa_p384(node: str) -> None:
    with pytest.raises(ConfigError, match="node is not an ECDSA P-384 public key"):
        to_text(an_identity(node=node), KEY)


def test_an_invitation_is_no_identity() -> None:
    with pytest.raises(ConfigError, match=r"^identity"):
        identity_from(invitation_text(an_invitation(), key_of("operator")))
