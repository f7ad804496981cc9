"""What may be shown at all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.serving.allowed import allowed
from client.serving.ask import Wanted
from client.serving.taste import Past
from shared.errors import ConfigError
from tests.client.serving.served import GENRES, served

MODEL = served()
GENRE, YEAR = np.arange(200) % 4, 1960 + np.arange(200) % 60
PLACES = st.lists(st.integers(0, 199), unique=True, max_size=40)
BOUND = st.none() | st.integers(1950, 2030)


def past(seen: list[int], hidden: list[int]) -> Past:
    return Past(seen=np.array(seen, np.int64), hidden=np.array(hidden, np.int64))


def test_everything_is_allowed_to_who_asks_for_nothing() -> None:
    assert allowed(MODEL).all()


@settings(max_examples=60, deadline=None)
@given(
    genres=st.builds(
        Wanted,
        any_of=st.lists(st.sampled_from([*GENRES, "unheard of"])).map(tuple),
        none_of=st.lists(st.sampled_from(GENRES)).map(tuple),
    ),
    years=st.builds(Wanted, low=BOUND, high=BOUND),
    seen=PLACES,
    hidden=PLACES,
    only=st.tuples(st.none() | PLACES, PLACES),
    include_seen=st.booleans(),
)
def test_an_item_is_allowed_if_and_only_if_every_condition_holds(
    genres: Wanted,
    years: Wanted,
    seen: list[int],
    hidden: list[int],
    only: tuple[list[int] | None, list[int]],
    *,
    include_seen: bool,
) -> None:
    candidates, exclude = only

    mask = allowed(
        MODEL,
        past(seen, hidden),
        filters={"genres": genres, "year": years},
        candidates=None if candidates is None else [f"item-{n}" for n in candidates],
        exclude=[f"item-{n}" for n in exclude],
        include_seen=include_seen,
    )

    for n in range(200):
        genre = GENRES[GENRE[n]]
        wanted = [
            not genres.any_of or genre in genres.any_of,
            genre not in genres.none_of,
            years.low is None or YEAR[n] >= years.low,
            years.high is None or YEAR[n] <= years.high,
            include_seen or n not in seen,
            n not in hidden,
            n not in exclude,
            candidates is None or n in candidates,
        ]
        assert mask[n] == all(wanted)


def test_what_the_user_liked_counts_as_met() -> None:
    liked = Past(items=np.array([3]), strengths=np.ones(1, np.float32))

    assert not allowed(MODEL, liked)[3]
    assert allowed(MODEL, liked, include_seen=True)[3]


def test_an_item_without_a_number_is_outside_every_bound() -> None:
    assert not allowed(MODEL, filters={"genres": Wanted(low=0)}).any()


def test_ids_that_the_catalogue_does_not_hold_yet_are_passed_over() -> None:
    mask = allowed(MODEL, candidates=["item-3", "tomorrow"], exclude=["tomorrow"])

    assert np.flatnonzero(mask).tolist() == [3]


def test_an_unknown_attribute_is_refused_with_the_known_ones_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="genres, maker, year") as refused:
        allowed(MODEL, filters={"secret": Wanted(any_of=("x",))})

    assert "secret" not in str(refused.value)
