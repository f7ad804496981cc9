"""A user's past is that user's alone, and as of now, whoever wrote it down."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client import forgotten
from client.data import SiteData, UserHistory
from client.serving import past, schema, users
from client.serving.events import Event, Kind, is_against, strength
from client.serving.past import place_of
from client.serving.store import Store
from client.serving.taste import Past
from client.serving.users import Users
from client.site import Site
from shared.catalogue import Catalogue
from tests.client.serving.doings import event, names, run, shown
from tests.client.serving.served import WIDTH, served
from tests.factories import write_site

MODEL = served(40)


def history(user: str, *events: tuple[int, bool]) -> UserHistory:
    """Events of the data: items of ``MODEL``, and whether they were liked."""
    return UserHistory(
        user=user,
        items=np.array([item for item, _ in events], np.int64),
        times=np.arange(len(events), dtype=np.int64) + 10,
        likes=np.array([like for _, like in events], np.bool_),
    )


DATA = SiteData(
    MODEL.catalogue,
    (
        history("bob", (4, True), (5, False), (6, True), (4, True), (7, True)),
        history("cy", (9, True)),
        history("ann", (8, False)),
    ),
    {"bob": {"age": "25-34", "place": "Ulm"}, "eve": {"age": "18-24"}},
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return write_site(tmp_path)


@pytest.fixture
def kept(site: Site) -> Iterator[Store]:
    with closing(Store(site.folder)) as opened:
        yield opened


@pytest.fixture
def people(site: Site, kept: Store) -> Users:
    return Users(site, DATA, kept)


def told(past: Past) -> dict[str, list[float]]:
    """All that a past says, as plain numbers."""
    return {
        name: getattr(past, name).tolist()
        for name in ("items", "strengths", "seen", "against", "hidden")
    }


def test_without_live_events_the_past_is_the_likes_of_the_data_newest_first(
    people: Users,
) -> None:
    past = people.past("bob", MODEL)

    assert told(past) == {
        "items": [7, 4, 6],
        "strengths": [1.0, 1.0, 1.0],
        "seen": [4, 5, 6, 7],
        "against": [],
        "hidden": [],
    }
    assert told(people.past("nobody", MODEL)) == told(Past())
    assert told(people.past("", MODEL)) == told(Past())


def test_an_event_counts_in_the_very_next_answer_whichever_process_took_it(
    site: Site, people: Users
) -> None:
    before = people.past("bob", MODEL)
    with closing(Store(site.folder)) as other:
        run(other.add_events([event("e1", "bob", "buy", "item-20")]))

    past = people.past("bob", MODEL)

    assert past.items.tolist() == [20, *before.items]
    assert past.strengths.tolist() == [1.5, 1.0, 1.0, 1.0]
    assert people.past("bob", MODEL) is past  # and it is not worked out twice


def test_live_events_are_in_the_order_of_their_times_and_newer_than_the_data(
    kept: Store, people: Users
) -> None:
    run(kept.add_events([event("e1", "bob", item="item-20", time=300)]))
    people.past("bob", MODEL)
    late = [
        event("e2", "bob", item="item-21", time=100),
        event("e3", "bob", "view", "item-22", time=1),
    ]

    run(kept.add_events(late))

    assert people.past("bob", MODEL).items.tolist() == [20, 21, 22, 7, 4, 6]
    assert [one.id for one in people.events("bob")] == ["e1", "e2", "e3", *[""] * 5]


WORDS: dict[str, tuple[list[tuple[Kind, float | None]], float, bool, bool]] = {
    "a view": ([("view", None)], 0.25, False, False),
    "a view and a click": ([("view", None), ("click", None)], 0.5, False, False),
    "a like and then a view": ([("like", None), ("view", None)], 1.0, False, False),
    "a like and then a skip": ([("like", None), ("skip", None)], 0.0, True, False),
    "a skip and then a click": ([("skip", None), ("click", None)], 0.5, False, False),
    "hidden": ([("buy", None), ("hide", None)], 0.0, True, True),
    "hidden, clicked": ([("hide", None), ("click", None)], 0.0, True, True),
    "hidden, rated low": ([("hide", None), ("rate", 1.0)], 0.0, True, True),
    "hidden, liked again": ([("hide", None), ("like", None)], 1.0, False, False),
    "rated high": ([("rate", 4.0)], 1.0, False, False),
    "rated low": ([("like", None), ("rate", 2.0)], 0.0, True, False),
    "liked, rated middling": ([("like", None), ("rate", 3.0)], 0.0, False, False),
    "rated low, then high": ([("rate", 1.0), ("rate", 5.0)], 1.0, False, False),
    "rated low, then a view": ([("rate", 1.0), ("view", None)], 0.0, True, False),
}


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("item", [30, 6])  # new to bob; liked by bob in the data
def test_the_newest_word_on_an_item_counts(
    kept: Store, people: Users, words: str, item: int
) -> None:
    said, amount, is_not, is_hidden = WORDS[words]
    events = [
        event(f"e{n}", "bob", kind, f"item-{item}", rating=rating)
        for n, (kind, rating) in enumerate(said)
    ]
    if item == 6 and words in {"a view", "a view and a click"}:
        amount = 1.0  # the like of the data

    run(kept.add_events(events))

    past = people.past("bob", MODEL)
    strengths = dict(zip(past.items.tolist(), past.strengths.tolist(), strict=True))
    assert strengths.get(item, 0.0) == amount
    assert (item in past.against, item in past.hidden) == (is_not, is_hidden)
    assert item in past.seen
    assert strengths[7] == 1.0
    assert past.items[0] == (item if amount else 7)


def test_a_review_counts_by_its_sentiment(kept: Store, people: Users) -> None:
    good = event("e1", "cy", "review", "item-1", text="Fine.", sentiment=0.5)
    bad = event("e2", "cy", "review", "item-2", text="Dull.", sentiment=-0.5)

    run(kept.add_events([good, bad]))

    past = people.past("cy", MODEL)
    assert past.items.tolist() == [1, 9]
    assert past.strengths.tolist() == [0.5, 1.0]
    assert past.against.tolist() == [2]


@pytest.mark.parametrize(
    ("sentiment", "is_not"), [(-0.01, False), (-0.29, False), (-0.3, True), (-1, True)]
)
def test_a_faint_word_takes_no_like_back(
    kept: Store, people: Users, sentiment: float, *, is_not: bool
) -> None:
    review = event("e2", "cy", "review", "item-2", time=200, sentiment=sentiment)

    run(kept.add_events([event("e1", "cy", "like", "item-2"), review]))

    past = people.past("cy", MODEL)
    assert (2 in past.against, 2 in past.items) == (is_not, not is_not)


@pytest.mark.parametrize(
    ("sentiment", "is_not"), [(0.01, True), (0.49, True), (0.5, False)]
)
def test_a_faint_word_takes_no_dislike_back(
    kept: Store, people: Users, sentiment: float, *, is_not: bool
) -> None:
    low = event("e1", "cy", "rate", "item-2", rating=1.0)
    review = event("e2", "cy", "review", "item-2", time=200, sentiment=sentiment)

    run(kept.add_events([low, review]))

    past = people.past("cy", MODEL)
    assert (2 in past.against, 2 in past.items) == (is_not, not is_not)


def test_a_review_counts_in_the_next_answer_after_it_was_scored_by_any_process(
    site: Site, kept: Store, people: Users
) -> None:
    run(
        kept.add_events(
            [
                event("e1", "cy", "review", "item-1"),
                event("e2", "cy", "like", "item-2"),
            ]
        )
    )
    before = people.past("cy", MODEL)
    with closing(Store(site.folder)) as other:
        run(other.set_sentiments({("cy", "e1"): -0.8}))

    after = people.past("cy", MODEL)

    assert (before.items.tolist(), before.against.tolist()) == ([2, 9], [])
    assert (after.items.tolist(), after.against.tolist()) == ([2, 9], [1])


def test_a_new_event_does_not_read_the_whole_past_again(
    kept: Store, people: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [event(f"e{n}", "cy", item=f"item-{n}", time=n) for n in range(30)]
    run(kept.add_events(first))
    people.past("cy", MODEL)
    looked = list[str]()

    def counting(item: str, catalogue: Catalogue) -> int | None:
        looked.append(item)
        return place_of(item, catalogue)

    monkeypatch.setattr(past, "place_of", counting)
    run(kept.add_events([event("new", "cy", item="item-31", time=29)]))

    assert people.past("cy", MODEL).items[:3].tolist() == [31, 29, 28]
    assert looked == ["item-31"]


def test_who_was_only_shown_lists_is_known_and_can_be_removed(tmp_path: Path) -> None:
    site = write_site(tmp_path, 20)
    with closing(Store(site.folder)) as kept:
        people = Users(site, DATA, kept)
        kept.log_shown(shown("l1", "dee"))
        run(kept.add_events([event("e1", "bob")]))  # takes along what waits
        assert people.knows("dee")
        assert people.known("cy", 10) == ["dee", "eve"]

        assert run(people.remove("dee")).held

        assert not people.knows("dee")
        assert people.known("cy", 10) == ["eve"]


def test_events_on_an_item_wait_until_it_is_served(kept: Store, people: Users) -> None:
    run(
        kept.add_events([event("e1", "cy", item="n1"), event("e2", "cy", "search", "")])
    )
    before = people.past("cy", MODEL)
    added = MODEL.catalogue.subset([0])
    new = type(added)(ids=("n1",), texts=added.texts, attributes=added.attributes)
    larger = MODEL.with_items(new, np.ones((1, WIDTH), np.float32))

    after = people.past("cy", larger)

    assert before.items.tolist() == [9]
    assert after.items.tolist() == [40, 9]
    assert people.past("cy", MODEL).items.tolist() == [9]  # who began with the old one


def test_places_are_those_of_the_model_whatever_the_order_of_its_catalogue(
    kept: Store, people: Users
) -> None:
    turned = MODEL.catalogue.subset(range(39, 4, -1))  # without items 0 to 4
    other = replace(served(35), catalogue=turned)
    run(kept.add_events([event("e1", "bob", item="item-39")]))

    past = people.past("bob", other)

    ids = [turned.ids[place] for place in past.items]
    assert ids == ["item-39", "item-7", "item-6"]
    assert [turned.ids[place] for place in past.seen] == [
        *("item-39", "item-7", "item-6", "item-5")
    ]


kinds: st.SearchStrategy[Kind] = st.sampled_from(
    ["view", "click", "like", "buy", "skip", "hide", "review"]
)
doings = st.lists(
    st.tuples(st.sampled_from(["ann", "bob", "dee"]), kinds, st.integers(0, 9)),
    max_size=12,
)


def events_of(did: Sequence[tuple[str, Kind, int]], times: int) -> list[Event]:
    return [
        event(f"e{n}", user, kind, f"item-{item}", time=(n * 7) % times)
        for n, (user, kind, item) in enumerate(did)
    ]


@settings(max_examples=20, deadline=None)
@given(did=doings, times=st.integers(1, 9), cut=st.integers(0, 12))
def test_reading_what_came_since_gives_what_reading_all_at_once_gives(
    did: list[tuple[str, Kind, int]], times: int, cut: int
) -> None:
    events = events_of(did, times)
    with tempfile.TemporaryDirectory() as folder:
        site = write_site(Path(folder))
        with closing(Store(site.folder)) as kept:
            people = Users(site, DATA, kept)
            run(kept.add_events(events[:cut]))
            for user in ("ann", "bob"):
                people.past(user, MODEL)
            run(kept.add_events(events[cut:]))
            for user in ("ann", "bob"):
                people.past(user, MODEL)
            run(kept.set_sentiments({(one.user, one.id): -0.9 for one in events[::2]}))
            step_by_step = [told(people.past(user, MODEL)) for user in ("ann", "bob")]
            at_once = Users(site, DATA, kept)

            assert step_by_step == [
                told(at_once.past(user, MODEL)) for user in ("ann", "bob")
            ]


@settings(max_examples=20, deadline=None)
@given(did=doings)
def test_what_others_do_changes_nothing_of_a_users_past(
    did: list[tuple[str, Kind, int]],
) -> None:
    events = events_of(did, 5)
    alone = [one for one in events if one.user == "bob"]
    pasts = []
    for part in (events, alone):
        with tempfile.TemporaryDirectory() as folder:
            site = write_site(Path(folder))
            with closing(Store(site.folder)) as kept:
                run(kept.add_events(part))
                pasts.append(told(Users(site, DATA, kept).past("bob", MODEL)))

    assert pasts[0] == pasts[1]


def test_a_user_forgotten_by_any_process_is_unknown_at_once(
    site: Site, kept: Store, people: Users
) -> None:
    run(kept.add_events([event("e1", "bob")]))
    run(kept.edit("bob", {"topic:x": "muted"}, 100))
    assert people.knows("bob")
    people.past("bob", MODEL)

    forgotten.add(site.folder, "bob")

    assert told(people.past("bob", MODEL)) == told(Past())
    assert people.events("bob") == ()
    assert people.edits("bob") == {}
    assert people.about("bob") == {}
    assert not people.knows("bob")
    assert people.known("", 10) == ["ann", "cy", "eve"]
    assert told(people.past("cy", MODEL))["items"] == [9]


def test_removing_a_user_forgets_them_down_to_the_bytes(tmp_path: Path) -> None:
    site = write_site(tmp_path, 20)
    user = "user-to-remove-177"
    with closing(Store(site.folder)) as kept:
        people = Users(site, DATA, kept)
        run(kept.add_events([event("e1", user), event("e2", "bob")]))
        people.past(user, MODEL)

        done = run(people.remove(user))

        assert done.held
        assert user in forgotten.forgotten_at(site.folder)
        assert told(people.past(user, MODEL)) == told(Past())
        for path in (site.folder / schema.FOLDER).iterdir():
            assert b"177" not in path.read_bytes()
        assert names(site.folder) == ["e2"]


def test_all_who_are_known_come_page_by_page_in_their_order(
    site: Site, kept: Store, people: Users
) -> None:
    run(kept.add_events([event(f"e{n}", f"user-{n:02}") for n in range(7)]))
    run(kept.declare("dee", {"age": "25-34"}))
    for user in ("cy", "user-03"):
        forgotten.add(site.folder, user)
    expected = [
        "ann",
        "bob",
        "dee",
        "eve",
        *(f"user-{n:02}" for n in range(7) if n != 3),
    ]

    for size in (1, 2, 3, 100):
        found: list[str] = []
        while page := people.known(found[-1] if found else "", size):
            assert len(page) <= size
            found += page

        assert found == expected


def test_what_a_user_declares_stands_before_what_the_data_say(
    kept: Store, people: Users
) -> None:
    run(kept.declare("bob", {"age": "35-44"}))

    assert people.about("bob") == {"age": "35-44", "place": "Ulm"}
    assert people.about("eve") == {"age": "18-24"}
    assert people.about("nobody") == {}


def test_events_of_the_data_say_no_more_than_the_data_do(people: Users) -> None:
    found = people.events("bob")

    items = [f"item-{item}" for item in (7, 4, 6, 5, 4)]
    assert [one.item for one in found] == items
    assert [one.time for one in found] == [14, 13, 12, 11, 10]
    assert [strength(one) for one in found] == [1.0, 1.0, 1.0, 0.0, 1.0]
    assert not any(is_against(one) for one in found)


def test_pasts_that_are_held_no_more_are_read_again(
    kept: Store, people: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "MOST_USERS", 3)
    monkeypatch.setattr(users, "MOST_MET", 5)
    ids = [f"user-{n}" for n in range(6)]
    events = [
        event(f"{user}-{n}", user, item=f"item-{n}")
        for user in ids
        for n in range(1 + len(user) % 3)
    ]
    run(kept.add_events(events))
    first = [told(people.past(user, MODEL)) for user in ids]

    assert [told(people.past(user, MODEL)) for user in ids] == first
    assert len(people._held) <= 3
    assert people._met == sum(len(held.stands) for held in people._held.values()) <= 5


def test_histories_of_the_data_take_no_object_for_an_event(people: Users) -> None:
    held = people._histories

    arrays = (held.items, held.times, held.likes)
    assert sum(array.nbytes for array in arrays) == (4 + 8 + 1) * 7
    assert "bob" not in repr(held)
