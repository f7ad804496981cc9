"""The policy as its owner reads and edits it."""

import math
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.policy import RELEASES, SitePolicy
from client.policy_file import policy_text, read_policy
from shared.config import key_of
from shared.errors import ConfigError

ABOVE_ZERO = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
COUNTS = st.integers(1, 2**63 - 1)
DIGESTS = st.sampled_from(["", "a" * 64])


@st.composite
def policies(draw: st.DrawFn) -> SitePolicy:
    """Any sound policy."""
    users = draw(st.integers(1, 10**9))
    return SitePolicy(
        epsilon=draw(ABOVE_ZERO | st.just(math.inf)),
        users=users,
        delta=draw(st.floats(0, 1 / users, exclude_min=True)),
        min_sigma=draw(ABOVE_ZERO),
        min_prior_sigma=draw(ABOVE_ZERO),
        min_metric_sigma=draw(ABOVE_ZERO),
        min_serving_sigma=draw(ABOVE_ZERO),
        max_q=draw(ABOVE_ZERO),
        max_steps=draw(COUNTS),
        max_clip=draw(ABOVE_ZERO),
        base=draw(DIGESTS),
        modules=tuple(draw(st.lists(st.text(), max_size=3))),
        max_rank=draw(COUNTS),
        max_tensor_mib=draw(ABOVE_ZERO),
        max_start_norm=draw(ABOVE_ZERO),
        code=draw(DIGESTS),
        releases=tuple(draw(st.lists(st.sampled_from(RELEASES), max_size=2))),
        hours=draw(st.sampled_from(["", "22:00-06:00"])),
        serve_only=draw(st.booleans()),
        insecure_test_noise=draw(st.booleans()),
    )


@settings(max_examples=40)
@given(policy=policies())
def test_any_policy_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, policy: SitePolicy
) -> None:
    path = tmp_path_factory.getbasetemp() / "policy.toml"
    path.write_text(policy_text(policy), "utf-8")

    assert read_policy(path) == policy
    assert read_policy(path).digest() == policy.digest()


@pytest.mark.parametrize("name", [field.name for field in fields(SitePolicy)])
def test_every_key_stands_right_under_a_line_that_says_what_it_means(name: str) -> None:
    lines = policy_text(SitePolicy(epsilon=8, users=100)).splitlines()

    (place,) = [
        n for n, line in enumerate(lines) if line.startswith(key_of(name) + " ")
    ]

    assert lines[place - 1].startswith("# ")
    assert len(lines[place - 1]) >= 20
    assert lines[place - 2] == ""


def test_a_file_holds_every_key_and_no_other() -> None:
    written = tomllib.loads(policy_text(SitePolicy(epsilon=8, users=100)))

    assert [*written] == [key_of(field.name) for field in fields(SitePolicy)]


def read_text(folder: Path, text: str) -> SitePolicy:
    (folder / "policy.toml").write_bytes(text.encode("latin-1"))
    return read_policy(folder / "policy.toml")


def test_the_shortest_policy_is_a_budget_and_a_number_of_users(tmp_path: Path) -> None:
    found = read_text(tmp_path, "epsilon = 3\nusers = 50\n")

    assert found == SitePolicy(epsilon=3.0, users=50)


def test_unknown_and_missing_keys_and_wrong_types_are_told_at_once(
    tmp_path: Path,
) -> None:
    text = "epsilom = 3\nmax_q = 0.1\nmax-steps = '9'\nserve-only = 1\nmodules = 'a'\n"

    with pytest.raises(ConfigError) as caught:
        read_text(tmp_path, text)

    told = str(caught.value)
    assert told.startswith(f"{tmp_path / 'policy.toml'}: 7 fault(s)")
    for fault in (
        *("unknown key 'epsilom'", "unknown key 'max_q'"),
        *("missing key 'epsilon'", "missing key 'users'"),
        *("max-steps='9' is not int", "serve-only=1 is not bool"),
        "modules='a' is not a list of str",
    ):
        assert fault in told


def test_every_value_out_of_range_is_told_at_once(tmp_path: Path) -> None:
    text = "epsilon = 0\nusers = 0\nmax-q = nan\nhours = 'night'\nreleases = ['loss']\n"

    with pytest.raises(ConfigError) as caught:
        read_text(tmp_path, text)

    told = str(caught.value)
    assert "5 fault(s)" in told
    for fault in ("epsilon=0", "users=0", "max-q=nan", "hours='night'", "['loss']"):
        assert fault in told


@pytest.mark.parametrize(
    "text", ["epsilon = ", "[policy", "epsilon = 1\nepsilon = 2", "name = '\xff'"]
)
def test_a_file_that_is_no_toml_is_refused_by_its_name(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(ConfigError, match=r"policy\.toml is not valid TOML"):
        read_text(tmp_path, text)


def test_a_site_without_a_policy_allows_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without a policy allows nothing"):
        read_policy(tmp_path / "policy.toml")


def test_what_its_owner_changes_in_the_file_is_what_is_read(tmp_path: Path) -> None:
    policy = SitePolicy(epsilon=8, users=100)
    text = policy_text(policy).replace("serve-only = false", "serve-only = true")

    assert read_text(tmp_path, text) == replace(policy, serve_only=True)
