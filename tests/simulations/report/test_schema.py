"""What a report says was asked, by the names that a person gives it."""

from simulations.report.schema import settings_of
from simulations.scenario_file import read_scenario


def test_every_setting_has_the_name_by_which_it_can_be_set() -> None:
    """Also those of the arms without privacy, which lie one table deeper."""
    sets = ["recipe.factors=16", "no-dp.recipe.optimizer=adam", "no-dp.mechanism.q=.2"]
    asked = read_scenario(None, {"sites": 4}, sets)

    told = dict(settings_of(asked.tables()))

    assert told["sites"] == 4
    assert told["recipe.factors"] == 16
    assert told["no-dp.recipe.optimizer"] == "adam"
    assert told["no-dp.mechanism.q"] == 0.2
    again = read_scenario(
        None,
        {},
        [
            f"{key}={told[key]}"
            for key in (
                "sites",
                "recipe.factors",
                "no-dp.recipe.optimizer",
                "no-dp.mechanism.q",
            )
        ],
    )
    assert dict(settings_of(again.tables())) == told
