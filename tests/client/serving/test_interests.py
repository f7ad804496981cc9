from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data import UserHistory
from client.serving.events import Event, Kind
from client.serving.interests import (
    HALF_LIFE,
    Interest,
    adjustment,
    interests_of,
    members,
    says,
    without,
)
from client.serving.past import past_of
from client.serving.records import Edit, State
from client.serving.taste import Past, taste_of
from client.serving.topics import find_topics
from tests.client.serving.served import GENRES, served

MODEL = served(200)
TOPICS = find_topics(MODEL, 4)
HORROR, COMEDY = "attribute:genres:horror", "attribute:genres:comedy"
KINDS: tuple[Kind, ...] = ("view", "skip", "hide")
NOBODY = UserHistory(
    user="",
    items=np.zeros(0, np.int64),
    times=np.zeros(0, np.int64),
    likes=np.zeros(0, np.bool_),
)


def event(place: int, time: int = 0, kind: Kind = "like", **more: object) -> Event:
    said = {"id": f"{place}-{time}", "user": "ann", "item": f"item-{place}"}
    return Event(kind=kind, time=time, **{**said, **more})  # type: ignore[arg-type]


def of_genre(genre: str, count: int, time: int = 0, kind: Kind = "like") -> list[Event]:
    start = GENRES.index(genre)
    return [event(start + 4 * n, time, kind) for n in range(count)]


def told(events: list[Event], **edits: Edit) -> dict[str, Interest]:
    named = {HORROR if name == "horror" else COMEDY: e for name, e in edits.items()}
    return {i.key: i for i in interests_of(events, named, MODEL, TOPICS)}


def as_past(events: list[Event]) -> Past:
    """The past that these events make, given newest first."""
    return past_of(NOBODY, events[::-1], MODEL.catalogue)


def test_what_a_user_likes_more_than_the_catalogue_has_is_an_interest() -> None:
    found = told([*of_genre("horror", 12), *of_genre("comedy", 4)])

    assert found[HORROR].name == "horror"
    assert found[HORROR].kind == "attribute"
    assert found[HORROR].weight > 0.5
    assert "attribute:genres:drama" not in found
    assert COMEDY not in found  # a quarter of the events, as of the items
    assert found["topic:horror"].weight == pytest.approx(found[HORROR].weight, abs=0.02)
    assert found["topic:horror"].kind == "topic"


def test_the_weight_is_the_share_beyond_the_catalogues_own() -> None:
    found = told([*of_genre("horror", 6), *of_genre("comedy", 2)])

    left = 0.5 ** (np.arange(8) / HALF_LIFE)
    whole, part = left.sum(), left[:6].sum()
    excess = (part - whole / 4) / (3 / 4)
    assert found[HORROR].weight == round(excess / (whole + 2), 4)


def test_interests_come_strongest_first_and_shown_to_nobody_by_accident() -> None:
    found = interests_of(
        [*of_genre("horror", 9), *of_genre("comedy", 6)], {}, MODEL, TOPICS
    )

    weights = [interest.weight for interest in found]
    assert weights == sorted(weights, reverse=True)
    assert "horror" not in repr(found[0])


@given(
    counts=st.lists(
        st.tuples(st.integers(0, 199), st.integers(-(10**9), 10**9)), max_size=20
    ),
    kinds=st.lists(
        st.sampled_from(["view", "click", "like", "buy", "skip", "hide", "search"]),
        min_size=20,
        max_size=20,
    ),
)
@settings(max_examples=50, deadline=None)
def test_weights_are_from_0_to_1_whatever_a_user_does(
    counts: list[tuple[int, int]], kinds: list[Kind]
) -> None:
    events = [event(p, t, k) for (p, t), k in zip(counts, kinds, strict=False)]

    for interest in interests_of(events, {}, MODEL, TOPICS):
        assert 0 <= interest.weight < 1
        assert 0 <= interest.before < 1


def test_newer_events_count_more_by_half_lives_and_drift_is_told() -> None:
    early = of_genre("comedy", 8)
    late = of_genre("horror", 2 * HALF_LIFE)

    found = told([*late, *early])

    assert found[HORROR].weight > found[HORROR].before > 0
    assert COMEDY not in found  # two half-lives old: a small part of what is said
    turned = told([*of_genre("horror", HALF_LIFE), *of_genre("comedy", 30)])
    assert turned[COMEDY].before > 0.5 > turned[COMEDY].weight > 0


def test_how_the_data_count_time_says_nothing() -> None:
    now, then = (told(of_genre("horror", 8, time=t)) for t in (2_000_000_000_000, 1))

    assert now[HORROR].weight == then[HORROR].weight


def test_what_is_forgotten_is_forgotten_however_the_data_count_time() -> None:
    old = [replace(e, id="") for e in of_genre("horror", 8, time=2_000_000_000_000)]
    edits = {HORROR: Edit(state="forgotten", time=1_000_000_000)}

    found = {each.key: each for each in interests_of(old, edits, MODEL, TOPICS)}

    assert found[HORROR].weight == 0


def test_what_is_skipped_hidden_or_rated_low_is_less_of_an_interest() -> None:
    likes = of_genre("horror", 8)
    more = {
        kind: told([*likes, *of_genre("horror", 4, kind=kind)])[HORROR].weight
        for kind in KINDS
    }
    low = [event(1 + 4 * n, kind="rate", rating=1.0) for n in range(4)]

    assert more["hide"] < more["skip"] < told(likes)[HORROR].weight < more["view"]
    assert told([*likes, *low])[HORROR].weight < told(likes)[HORROR].weight


@pytest.mark.parametrize(
    ("more", "amount"),
    [
        ({"kind": "like"}, 1.0),
        ({"kind": "buy"}, 1.5),
        ({"kind": "search", "item": ""}, 0.0),
        ({"kind": "skip"}, -0.25),
        ({"kind": "hide"}, -1.0),
        ({"kind": "rate", "rating": 5.0}, 1.0),
        ({"kind": "rate", "rating": 3.0}, 0.0),
        ({"kind": "rate", "rating": 1.0}, -0.5),
        ({"kind": "review", "sentiment": 0.6}, 0.6),
        ({"kind": "review", "sentiment": -0.6}, -0.6),
        ({"kind": "review", "rating": 5.0, "sentiment": 0.8}, 1.4),
        ({"kind": "review", "rating": 5.0, "sentiment": -0.8}, 0.6),
        ({"kind": "review", "rating": 1.0, "sentiment": -0.8}, -0.9),
    ],
)
def test_what_an_event_says(more: dict[str, object], amount: float) -> None:
    assert says(event(1, **more)) == pytest.approx(amount)  # type: ignore[arg-type]


def test_items_that_the_model_lacks_are_passed_over() -> None:
    assert told([event(1, item="item-9999"), event(0, item="")]) == {}


def test_what_was_edited_is_always_told_and_an_unknown_interest_never() -> None:
    edits = {
        COMEDY: Edit("pinned", 1),
        HORROR: Edit("none", 1),
        "attribute:genres:opera": Edit("muted", 1),
        "topic:": Edit("muted", 1),
        "nonsense": Edit("muted", 1),
    }

    found = interests_of([], edits, MODEL, TOPICS)

    assert [(i.key, i.state, i.weight) for i in found] == [(COMEDY, "pinned", 0.0)]


def test_members_are_the_items_of_an_interest() -> None:
    horror = members(HORROR, MODEL, TOPICS)

    assert horror is not None
    assert horror.tolist() == list(range(1, 200, 4))
    topic = members("topic:horror", MODEL, TOPICS)
    assert topic is not None
    assert topic.tolist() == horror.tolist()
    assert members("topic:opera", MODEL, TOPICS) is None


def test_an_attribute_and_a_value_may_hold_colons() -> None:
    catalogue = replace(
        MODEL.catalogue, attributes={"a:b": (("c:d",), ("e",)) * 100, "a": ((),) * 200}
    )
    model = replace(MODEL, catalogue=catalogue)

    found = interests_of([event(n) for n in range(0, 20, 2)], {}, model, TOPICS)

    assert ("attribute:a:b:c:d", "c:d") in {(i.key, i.name) for i in found}


def test_pinned_interests_rise_and_muted_ones_fall_behind_everything_else() -> None:
    edits = {HORROR: Edit("muted", 1), COMEDY: Edit("pinned", 1)}
    past = as_past(of_genre("horror", 8))
    taste = taste_of(MODEL, past, alpha=1.0)
    plain = 16.0 * (MODEL.vectors @ taste.text) + MODEL.prior

    made = adjustment(edits, MODEL, TOPICS)
    after = plain + sum(each.amount for each in made)

    assert [each.name for each in made] == ["horror", "comedy"]
    genre = np.arange(200) % 4
    assert genre[np.argmax(plain)] == 1
    assert after[genre == 1].max() < after[genre != 1].min()
    assert np.array_equal(
        np.argsort(-after[genre == 1]), np.argsort(-plain[genre == 1])
    )
    assert np.all(after[genre == 0] > plain[genre == 0] + 0.5)
    assert np.array_equal(after[genre > 1], plain[genre > 1])


@pytest.mark.parametrize("state", ["none", "forgotten"])
def test_other_edits_add_nothing(state: State) -> None:
    assert adjustment({HORROR: Edit(state, 1)}, MODEL, TOPICS) == ()
    assert adjustment({"topic:opera": Edit("pinned", 1)}, MODEL, TOPICS) == ()


def test_what_is_asked_for_by_name_is_not_muted_this_time() -> None:
    edits = {HORROR: Edit("muted", 1), COMEDY: Edit("muted", 1)}

    made = adjustment(edits, MODEL, TOPICS, asked={HORROR})

    assert [each.key for each in made] == [COMEDY]


@settings(max_examples=60, deadline=None)
@given(
    drawn=st.lists(
        st.tuples(
            st.integers(0, 30),
            st.integers(0, 100),
            st.sampled_from(["view", "like", "buy", "skip", "hide"]),
        ),
        max_size=25,
    ),
    until=st.integers(0, 100),
)
def test_a_forgotten_interest_leaves_the_past_as_if_its_events_had_never_been(
    drawn: list[tuple[int, int, Kind]], until: int
) -> None:
    events = sorted((event(*each) for each in drawn), key=lambda e: e.time)[::-1]
    horror = {f"item-{n}" for n in range(1, 200, 4)}
    rest = [e for e in events if e.item not in horror or e.time > until]

    made = without(
        as_past(events), events, {HORROR: Edit("forgotten", until)}, MODEL, TOPICS
    )

    expected = as_past(rest)
    assert made.items.tolist() == expected.items.tolist()
    assert made.strengths.tolist() == expected.strengths.tolist()
    assert made.against.tolist() == expected.against.tolist()
    assert made.seen.tolist() == as_past(events).seen.tolist()
    assert made.hidden.tolist() == as_past(events).hidden.tolist()


def test_a_past_is_left_alone_while_nothing_is_forgotten() -> None:
    past = as_past(of_genre("horror", 3))

    assert without(past, [], {HORROR: Edit("muted", 9)}, MODEL, TOPICS) is past


def test_a_forgotten_interest_weighs_nothing_until_it_is_met_again() -> None:
    old, new = of_genre("horror", 8, time=10), of_genre("horror", 3, time=30)

    gone = told(old, horror=Edit("forgotten", 20))
    back = told([*old, *new], horror=Edit("forgotten", 20))

    assert (gone[HORROR].weight, gone[HORROR].state) == (0.0, "forgotten")
    assert back[HORROR].weight == told(new)[HORROR].weight > 0
