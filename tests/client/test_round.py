"""Which streams a site draws from: secret wherever anything is promised."""

from pathlib import Path

import pytest

from client.noise import system_uniform
from client.policy import SitePolicy
from client.round import _streams
from client.site import Site, SiteSettings
from tests.factories import plan


def site(**policy: object) -> Site:
    made = SitePolicy(users=10, **policy)  # type: ignore[arg-type]
    return Site(Path(), SiteSettings(name="site-1"), made)


def test_a_site_that_promises_anything_draws_from_the_operating_system() -> None:
    streams = _streams(site(epsilon=8.0), plan({}), "training")

    assert streams.noise is system_uniform
    assert streams.coins is system_uniform


@pytest.mark.parametrize(
    "policy", [{"epsilon": float("inf")}, {"epsilon": 8.0, "insecure_test_noise": True}]
)
def test_a_site_that_promises_nothing_can_be_repeated(
    policy: dict[str, object],
) -> None:
    one, same = (_streams(site(**policy), plan({}), "training") for _ in range(2))
    other = _streams(site(**policy), plan({}, number=2), "training")

    drawn = one.noise(4).tolist()
    assert drawn == same.noise(4).tolist()
    assert drawn != other.noise(4).tolist()
