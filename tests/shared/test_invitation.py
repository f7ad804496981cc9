"""An invitation: signed by its operator, read only as it was signed."""

import math
import re
from dataclasses import fields

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.errors import ConfigError
from shared.invitation import (
    Invitation,
    PlanLimits,
    fingerprint,
    invitation_from,
    is_address,
    is_host,
    to_text,
)
from shared.protocol import AdapterSpec, Mechanism
from shared.signing import public_key, sign
from tests.shared.papers import an_invitation, authority
from tests.standin import key_of

# one changed letter of the certificate can make its number negative
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")

KEY = key_of("operator")
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
MODULES = ["output", "dense:1", "attention:12"]
POSITIVE = st.floats(0, 1e6, exclude_min=True, exclude_max=True)


@st.composite
def invitations(draw: st.DrawFn) -> Invitation:
    """Any sound invitation."""
    return an_invitation(
        site=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)),
        address=draw(st.sampled_from(["a.example:1", "10.0.0.1:443", "[::1]:65535"])),
        base=draw(DIGESTS),
        bundle=draw(DIGESTS),
        max_q=draw(st.floats(0, 1, exclude_min=True)),
        min_sigma=draw(st.floats(0.3, 1e6, exclude_max=True)),
        max_clip=draw(POSITIVE),
        max_steps=draw(st.integers(1, 100_000)),
        modules=tuple(draw(st.lists(st.sampled_from(MODULES), min_size=1))),
        max_rank=draw(st.integers(1, 1024)),
        min_prior_sigma=draw(POSITIVE),
    )


SIGNED = to_text(an_invitation(), KEY)


@settings(max_examples=40)
@given(invitation=invitations())
def test_any_invitation_is_read_as_it_was_written(invitation: Invitation) -> None:
    assert invitation_from(to_text(invitation, KEY)) == invitation


@given(place=st.integers(0, len(SIGNED) - 1), other=st.characters())
def test_any_changed_character_is_refused(place: int, other: str) -> None:
    assume(SIGNED[place] != other)

    with pytest.raises(ConfigError):
        invitation_from(SIGNED[:place] + other + SIGNED[place + 1 :])


@given(
    place=st.integers(0, len(SIGNED)),
    extra=st.text(min_size=1, max_size=3) | st.sampled_from(["\n", " ", "\n#\n"]),
)
def test_anything_added_is_refused(place: int, extra: str) -> None:
    with pytest.raises(ConfigError):
        invitation_from(SIGNED[:place] + extra + SIGNED[place:])


@given(start=st.integers(0, len(SIGNED) - 1), length=st.integers(1, 200))
def test_anything_cut_out_is_refused(start: int, length: int) -> None:
    with pytest.raises(ConfigError):
        invitation_from(SIGNED[:start] + SIGNED[start + length :])


OTHER: dict[str, object] = {
    "site": "south",
    "address": "evil.example:9443",
    "tacit": "9",
    "flwr": "9",
    "operator": public_key(key_of("someone")),
    "base": "c" * 64,
    "bundle": "c" * 64,
    "max_q": 0.3,
    "min_sigma": 0.5,
    "max_clip": 9.0,
    "max_steps": 999,
    "modules": ("dense:2",),
    "max_rank": 1024,
    "min_prior_sigma": 0.5,
}


@pytest.mark.parametrize("name", OTHER)
def test_another_value_under_the_same_signature_is_refused(name: str) -> None:
    signer = key_of("someone") if name == "operator" else KEY
    forged = to_text(an_invitation(**{name: OTHER[name]}), signer)
    signature = re.search("signature.*", SIGNED)
    assert signature is not None

    with pytest.raises(ConfigError, match="changed on its way"):
        invitation_from(re.sub("signature.*", signature[0], forged))


def test_every_field_but_the_certificate_was_tried() -> None:
    assert OTHER.keys() | {"ca"} == {field.name for field in fields(Invitation)}


def test_another_certificate_under_the_same_signature_is_refused() -> None:
    authority.cache_clear()
    other = authority()
    lines = SIGNED.partition('"""\n')[2].partition('"""')[0]

    with pytest.raises(ConfigError, match="changed on its way"):
        invitation_from(SIGNED.replace(lines, other))


def test_a_signature_for_another_purpose_is_none() -> None:
    signature = sign(KEY, "tacit release\n{}")

    with pytest.raises(ConfigError, match="changed on its way"):
        invitation_from(re.sub("signature.*", f'signature = "{signature}"', SIGNED))


def test_only_the_operator_that_it_names_can_sign_it() -> None:
    with pytest.raises(ConfigError, match="not its operator key"):
        to_text(an_invitation(), key_of("someone"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"site": "no/rth"}, "site='no/rth'"),
        ({"site": "a\x1b[2J"}, r"site='a\x1b[2J'"),
        ({"address": "tacit.example.org"}, "is not host:port"),
        ({"ca": ""}, "ca is not one certificate"),
        ({"ca": "-----BEGIN CERTIFICATE-----\n"}, "ca is not one certificate"),
        ({"ca": authority() + authority()}, "ca is not one certificate"),
        ({"ca": "# key\n" + authority()}, "ca is not one certificate"),
        ({"base": "A" * 64}, "base is not 64"),
        ({"bundle": ""}, "bundle is not 64"),
        ({"flwr": "1.41\n"}, "flwr="),
        ({"max_q": 1.5}, "max-q=1.5"),
        ({"max_q": math.nan}, "max-q=nan"),
        ({"max_q": "0.1"}, "max-q='0.1' is not float"),
        ({"min_sigma": 0.0}, "min-sigma=0.0"),
        ({"max_clip": math.inf}, "max-clip=inf"),
        ({"max_steps": 0}, "max-steps=0"),
        ({"max_steps": True}, "max-steps=True is not int"),
        ({"max_rank": 4096}, "max-rank=4096"),
        ({"min_prior_sigma": 0.0}, "min-prior-sigma=0.0"),
        ({"modules": ()}, "allows no adapter"),
        ({"modules": ("output", "embeddings")}, "modules='embeddings'"),
    ],
)
def test_a_value_out_of_range_is_neither_signed_nor_read(
    changes: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        to_text(an_invitation(**changes), KEY)

    assert "1 fault(s)" in str(refused.value)
    assert told in str(refused.value)


def test_all_faults_of_a_join_file_are_told_at_once() -> None:
    text = 'site = "a b"\nmax-q = 2.0\nsecret = 1\n'

    with pytest.raises(ConfigError) as refused:
        invitation_from(text)

    told = str(refused.value)
    assert "unknown key 'secret'" in told
    assert all(f"missing key {key!r}" in told for key in ("ca", "operator", "bundle"))


@pytest.mark.parametrize(
    "text", ["", "not TOML", "x = " + "[" * 5000, "x = " + "9" * 5000, "\ud800"]
)
def test_what_is_no_invitation_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^invitation"):
        invitation_from(text)


def test_the_limits_admit_by_default_what_the_protocol_does_by_default() -> None:
    limits, plan, spec = PlanLimits(), Mechanism(), AdapterSpec(base="")

    assert limits.faults() == []
    assert limits.max_q >= plan.q
    assert limits.max_clip >= plan.clip
    assert limits.max_steps >= plan.steps
    assert limits.max_rank >= spec.rank
    assert limits.min_sigma <= plan.sigma
    assert limits.min_prior_sigma <= plan.prior_sigma
    assert spec.modules in limits.modules


def test_a_fingerprint_is_eight_groups_and_differs_by_key() -> None:
    ours, theirs = (fingerprint(public_key(key_of(name))) for name in "ab")

    assert re.fullmatch("([0-9a-f]{4} ){7}[0-9a-f]{4}", ours)
    assert ours != theirs


@pytest.mark.parametrize(
    "address",
    ["localhost:1", "10.0.0.1:443", "[::1]:65535", "a-b.example.org:9443", "a1:80"],
)
def test_an_address_has_a_host_and_a_port(address: str) -> None:
    assert is_address(address)


@pytest.mark.parametrize(
    "address",
    [
        *("", ":", "host", "host:", ":1", "host:0", "host:65536", "host:01", "host:1a"),
        *("::1:443", "[host]:1", "[10.0.0.1]:1", "a b:1", "-a:1", "a..b:1", "1.2.3:1"),
        *("https://host:1", "host:1/x", "host:1\n", "[fe80::1%eth0]:1", "a_b:1"),
        f"{'a' * 64}:1",
    ],
)
def test_what_is_no_address_is_none(address: str) -> None:
    assert not is_address(address)


@given(st.text())
def test_a_host_has_nothing_in_it_that_a_shell_or_a_file_would_read(host: str) -> None:
    assert not is_host(host) or re.fullmatch("[0-9A-Za-z.:-]+", host)
