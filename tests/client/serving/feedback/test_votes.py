"""Votes: what a user chose of interleaved lists, and how little one user can say."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.forgotten import NOBODY, add, forgotten_at
from client.serving.events import Event, Kind
from client.serving.feedback.arms import NAMES
from client.serving.feedback.log import newest_event, opened
from client.serving.feedback.segments import SEGMENTS
from client.serving.feedback.sums import summed
from client.serving.feedback.tallies import SHAPE
from client.serving.feedback.thompson import Floats
from client.serving.feedback.votes import VOTE, votes
from client.serving.records import ShownList
from shared.errors import StoreFailed
from tests.client.serving.feedback.logged import LESS, MORE, USUAL, did, log, shown

STRONG: list[tuple[Kind, float | None]] = [
    *(("click", None), ("like", None), ("buy", None), ("view", None)),
    *(("rate", 4.0), ("rate", 5.0)),
]
WEAK: list[tuple[Kind, float | None]] = [
    *(("skip", None), ("hide", None), ("search", None)),
    *(("rate", 3.9), ("rate", 1.0)),
]


def read(site: Path, lists: list[ShownList], events: list[Event]) -> dict[str, Floats]:
    log(site, lists, events)
    with opened(site) as db:
        return votes(db, forgotten_at(site), 0, newest_event(db))


def cells(vote: Floats) -> dict[tuple[str, str, str], float]:
    """Entries that are not 0: (segment, level, won or lost) -> how much."""
    return {
        (SEGMENTS[s], NAMES[level], ("won", "lost")[side]): float(vote[s, level, side])
        for s, level, side in zip(*np.nonzero(vote), strict=True)
    }


def test_who_chose_one_sides_item_votes_for_it_and_against_the_other(
    tmp_path: Path,
) -> None:
    found = read(tmp_path, [shown("l", "ann")], [did("ann", "i0", "l")])

    assert cells(found["ann"]) == pytest.approx(
        {("few", MORE, "won"): VOTE, ("few", USUAL, "lost"): VOTE}
    )


def test_a_list_goes_to_the_side_with_more_items_and_a_tie_to_none(
    tmp_path: Path,
) -> None:
    lists = [shown("more", "ann", "abbb"), shown("tie", "bob", "abab")]
    events = [did("ann", item, "more") for item in ("i0", "i1", "i2")]
    events += [did("bob", item, "tie") for item in ("i0", "i1")]

    found = read(tmp_path, lists, events)

    assert ("few", USUAL, "won") in cells(found["ann"])
    assert not found["bob"].any()


def test_an_item_counts_once_however_often_it_was_chosen(tmp_path: Path) -> None:
    events = [did("ann", "i0", "l", kind) for kind in ("click", "like", "buy")]
    events += [did("ann", item, "l") for item in ("i1", "i3")]

    found = read(tmp_path, [shown("l", "ann", "abab")], events)

    assert ("few", USUAL, "won") in cells(found["ann"])


@pytest.mark.parametrize(("kind", "rating"), STRONG, ids=str)
def test_what_speaks_for_an_item_is_a_choice(
    tmp_path: Path, kind: Kind, rating: float | None
) -> None:
    events = [did("ann", "i0", "l", kind, rating=rating)]

    assert read(tmp_path, [shown("l", "ann")], events)["ann"].any()


@pytest.mark.parametrize(("kind", "rating"), WEAK, ids=str)
def test_what_speaks_for_nothing_is_none(
    tmp_path: Path, kind: Kind, rating: float | None
) -> None:
    events = [did("ann", "i0", "l", kind, rating=rating)]

    assert read(tmp_path, [shown("l", "ann")], events) == {}


@pytest.mark.parametrize(
    ("lists", "events"),
    [
        ([shown("l", "ann")], [did("bob", "i0", "l")]),  # another's list
        ([shown("l", "")], [did("ann", "i0", "l")]),  # an anonymous one
        ([shown("l", "ann")], [did("ann", "i9", "l")]),  # an item not in it
        ([shown("l", "ann")], [did("ann", "i0", "")]),  # answers no list
        ([shown("l", "ann")], [did("ann", "i0", "other")]),
        ([shown("l", "ann", arms=())], [did("ann", "i0", "l")]),  # one ranking
        ([shown("l", "ann", "....")], [did("ann", "i0", "l")]),  # of neither side
        ([shown("l", "ann", arms=("x", USUAL))], [did("ann", "i0", "l")]),
        ([shown("l", "ann", arms=(USUAL, USUAL))], [did("ann", "i0", "l")]),
        ([shown("l", "ann", segment="old")], [did("ann", "i0", "l")]),
    ],
)
def test_what_answers_no_comparison_of_ones_own_is_no_vote(
    tmp_path: Path, lists: list[ShownList], events: list[Event]
) -> None:
    assert read(tmp_path, lists, events) == {}


def test_who_was_forgotten_has_no_vote_although_rows_are_left(tmp_path: Path) -> None:
    lists = [shown("a", "ann"), shown("b", "bob")]
    log(tmp_path, lists, [did("ann", "i0", "a"), did("bob", "i0", "b")])
    add(tmp_path, "ann")

    with opened(tmp_path) as db:
        assert [*votes(db, forgotten_at(tmp_path), 0, 9)] == ["bob"]
        assert sorted(votes(db, NOBODY, 0, 9)) == ["ann", "bob"]


def test_an_event_counts_in_one_stretch_alone(tmp_path: Path) -> None:
    lists = [shown(name, "ann") for name in "xy"]
    log(tmp_path, lists, [did("ann", "i0", "x"), did("ann", "i1", "y")])

    with opened(tmp_path) as db:
        first, second = (votes(db, NOBODY, n, n + 1)["ann"] for n in (0, 1))
        newest = newest_event(db)

    assert newest == 2
    assert ("few", MORE, "won") in cells(first)
    assert ("few", USUAL, "won") in cells(second)


def test_a_site_that_served_nobody_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="served nobody yet"), opened(tmp_path):
        pass


USERS = ("ann", "bob", "cem")
PAIRS = [(MORE, USUAL), (LESS, MORE), ("explore x0", "explore x2")]
doings = st.lists(
    st.tuples(
        st.sampled_from(USERS),
        st.integers(0, 7),  # which list of theirs
        st.integers(0, 3),  # which item of it
        st.sampled_from(STRONG + WEAK),
    ),
    max_size=40,
)


@settings(max_examples=10, deadline=None)
@given(made=doings, gone=st.sampled_from(USERS))
def test_one_user_moves_the_sum_by_one_at_most_and_by_their_own_vote_alone(
    tmp_path_factory: pytest.TempPathFactory,
    made: list[tuple[str, int, int, tuple[Kind, float | None]]],
    gone: str,
) -> None:
    lists = [
        shown(f"{user}{n}", user, arms=PAIRS[n % 3], segment=SEGMENTS[n % 4])
        for user in USERS
        for n in range(8)
    ]
    events = [
        did(user, f"i{item}", f"{user}{n}", kind, rating=rating)
        for user, n, item, (kind, rating) in made
    ]
    others = [event for event in events if event.user != gone]

    all_of_them = read(tmp_path_factory.mktemp("with"), lists, events)
    without = read(tmp_path_factory.mktemp("without"), lists, others)

    moved = summed(all_of_them, None) - summed(without, None)
    assert np.linalg.norm(moved) <= 1 + 1e-12
    own = all_of_them.get(gone, np.zeros(SHAPE))
    assert np.allclose(moved, own.ravel())
    assert all(np.array_equal(all_of_them[user], without[user]) for user in without)
