"""Which arms are trained for which are asked."""

import pytest

from simulations.scenario import ARMS
from simulations.scenario_file import read_scenario
from simulations.stage import main_arm, releasing_arm, to_train


def trained(*arms: str) -> list[str]:
    return to_train(read_scenario(None, {"arms": list(arms)}, []))


@pytest.mark.parametrize(
    ("arms", "needed"),
    [
        (["popularity", "item-knn", "ease", "als", "bpr", "text"], []),
        (["dp-popularity"], ["federated"]),
        (["text-dp-popularity", "federated-no-dp"], ["federated", "federated-no-dp"]),
        (["dp-popularity", "local"], ["local"]),
        (["cf"], ["local"]),
        (["cf", "text-dp-popularity"], ["local"]),
        (["local-no-dp", "central-no-dp"], ["local-no-dp", "central-no-dp"]),
    ],
)
def test_what_is_not_asked_for_is_trained_only_if_another_arm_shows_it(
    arms: list[str], needed: list[str]
) -> None:
    assert trained(*arms) == needed


def test_an_arm_without_privacy_releases_nothing_that_a_private_one_shows() -> None:
    for arm in ARMS:
        asked = read_scenario(None, {"arms": [arm, "dp-popularity"]}, [])
        assert releasing_arm(asked) in {"federated", "local"}
        assert releasing_arm(asked) in to_train(asked)


def test_the_run_folder_shows_the_federation_first() -> None:
    every = read_scenario(None, {"arms": list(ARMS)}, [])
    plain = read_scenario(None, {"arms": ["popularity", "ease"]}, [])

    assert main_arm(every) == "federated"
    assert main_arm(plain) is None
