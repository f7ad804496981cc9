"""A site answers its users: from what they did a moment ago, and with true reasons."""

import asyncio
import json
import math
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

import client.serving.live
from client.serving.ask import Answer, Ask, Wanted
from client.serving.contract import NotHere
from client.serving.conversation import pack
from client.serving.events import Event, Kind
from client.serving.refused import Refused
from client.serving.schema import read_only
from client.serving.service import Service, open_service
from client.serving.settings import FILE
from client.serving.understood import Leaning, Term, Understood
from client.serving.wishes import Said
from shared.errors import ConfigError
from tests.factories import write_site

T = TypeVar("T")
USER = "user-00003"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("served") / "site"
    site = write_site(folder, people=12, cache=str(cache))
    (site.folder / FILE).write_text(
        '[[rules]]\nattribute = "domain"\nvalue = "film"\nadd = 0.75\n', "utf-8"
    )
    made = open_service(site.folder, None)
    yield made
    made.close()


def done(waiting: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(waiting)


def asked(service: Service, **what: Any) -> Answer:
    return done(service.recommend(Ask(**what)))


def ids(answer: Answer) -> list[str]:
    return [each.item for each in answer.items]


def items(service: Service) -> tuple[str, ...]:
    return tuple(item for item, _ in done(service.search_items("", 100)))


def event(item: str, kind: Kind = "like", **more: Any) -> Event:
    name = f"{kind}-{item}-{time.monotonic_ns()}"
    return Event(
        **{"id": name, "user": USER, "kind": kind, "item": item, "time": 1, **more}
    )


def test_an_event_changes_the_very_next_answer(service: Service) -> None:
    before = asked(service, user=USER, explain=True)

    new = done(service.add_events([event(before.items[0].item)]))
    after = asked(service, user=USER, explain=True)

    assert new == 1
    assert before.items[0].item not in ids(after)
    assert ids(after) != ids(before)[1:]


def test_a_hidden_item_never_comes_back(service: Service) -> None:
    first = asked(service, user="another").items[0].item

    done(service.add_events([event(first, "hide", user="another")]))

    again = asked(service, user="another", include_seen=True, k=72)
    assert first not in ids(again)


def test_whoever_was_never_here_is_served_too(service: Service) -> None:
    nobody, stranger = asked(service), asked(service, user="never-seen")

    assert len(nobody.items) == len(stranger.items) == 10
    assert nobody.alpha == 1.0


def test_the_parts_of_a_score_add_up(service: Service) -> None:
    answer = asked(service, user=USER, query="a night train", alpha=0.4)

    for each in answer.items:
        parts = each.parts
        whole = parts.text + parts.query + parts.cf + parts.prior
        assert whole + parts.interests + parts.rules == pytest.approx(
            each.score, abs=1e-4
        )


def test_a_history_item_counts_for_what_its_reason_says(service: Service) -> None:
    history = items(service)[:8]
    answer = asked(service, history=history, explain=True, k=5, diversity=0.0)
    for each in answer.items:
        assert each.reason is not None
        for cause in each.reason.causes:
            if cause.kind != "history":
                continue
            without = tuple(item for item in history if item != cause.name)
            again = asked(
                service, history=without, candidates=(each.item,), include_seen=True
            )
            assert each.score - again.items[0].score == pytest.approx(
                cause.amount, abs=1e-4
            )


def test_a_rule_raises_what_it_is_about_and_says_so(service: Service) -> None:
    answer = asked(
        service, filters={"domain": Wanted(any_of=("film",))}, explain=True, k=3
    )

    for each in answer.items:
        assert each.parts.rules == 0.75
        assert each.reason is not None
        assert [c.amount for c in each.reason.causes if c.kind == "rule"] == [0.75]


def test_an_interest_that_is_muted_goes_behind(service: Service) -> None:
    user = "mutes"
    film = next(item for item in items(service) if item.startswith("film"))
    done(service.add_events([event(film, user=user)]))
    key = "attribute:domain:film"

    before = asked(service, user=user)
    done(service.edit_interests(user, {key: "muted"}))
    muted = asked(service, user=user)
    done(service.edit_interests(user, {key: "none"}))
    again = asked(service, user=user)

    assert any(item.startswith("film") for item in ids(before))
    assert not any(item.startswith("film") for item in ids(muted))
    assert ids(again) == ids(before)
    assert all(each.parts.interests == 0 for each in again.items)


def test_a_request_in_words_leads_and_can_be_refined(service: Service) -> None:
    first = asked(service, query="a film about the sea")
    refined = asked(service, query="only books", conversation=first.conversation)

    assert first.understood is not None
    assert {each.attributes["domain"] for each in first.items} == {("film",)}
    assert {each.attributes["domain"] for each in refined.items} == {("book",)}
    assert refined.conversation != first.conversation


def test_a_request_that_nothing_fits_gets_no_answer_and_is_told(
    service: Service,
) -> None:
    answer = asked(
        service, query="a film", filters={"domain": Wanted(any_of=("book",))}
    )

    assert answer.items == ()
    assert answer.notes


def test_what_no_conversation_is_is_refused(service: Service) -> None:
    with pytest.raises(Refused):
        asked(service, query="a film", conversation="tampered")


def test_unknown_users_and_items_are_not_here(service: Service) -> None:
    with pytest.raises(NotHere):
        service.interests("nobody-asked")
    with pytest.raises(NotHere):
        service.similar("nobody-asked", 3)


def test_a_reason_says_less_of_what_was_asked_to_be_less(service: Service) -> None:
    said = Understood(
        language="en", leanings=(Leaning(toward="meaning", words="sad", weight=-1.0),)
    )
    model = service._live.now.served
    terms = Said(said, model.fresh, None, np.ones(len(model), np.float32)).terms(model)

    assert [term.text for term in terms] == ["less sad"]


def test_a_conversation_without_a_request_is_refused(service: Service) -> None:
    token = asked(service, query="only books").conversation

    with pytest.raises(Refused):
        asked(service, conversation=token)


def test_a_conversation_that_nobody_led_here_does_no_harm(service: Service) -> None:
    strange = Term(attribute="brand", value="x", words="x")
    loud = Leaning(toward="popularity", words="", weight=1e308)
    for said in (
        Understood(language="en", wanted=(strange,)),
        Understood(language="en", leanings=(loud,)),
    ):
        answer = asked(service, query="newer", conversation=pack(said))

        assert len(answer.items) == 10
        assert all(math.isfinite(each.score) for each in answer.items)


def test_what_was_searched_for_counts_in_the_next_answer(service: Service) -> None:
    done(service.add_events([event("", "search", user="seeks", text="only books")]))

    answer = asked(service, user="seeks", k=72)

    books = [each for each in answer.items if each.item.startswith("book")]
    others = [each for each in answer.items if not each.item.startswith("book")]
    assert all(each.parts.interests > 0 for each in books)
    assert all(each.parts.interests == 0 for each in others)
    assert books


def test_the_words_of_a_review_count_and_are_not_kept(service: Service) -> None:
    item = items(service)[3]
    said = "Dreadful. Boring, badly made, a waste of time."

    done(service.add_events([event(item, "review", user="critic", text=said)]))

    kept = service._live.now.users.events("critic")[0]
    assert (kept.text, kept.sentiment != 0) == ("", True)


def test_a_batch_with_many_words_is_kept_before_it_is_read(service: Service) -> None:
    reviewed = items(service)[:20]

    async def whole() -> tuple[int, int]:
        said = "I loved it. Wonderful!"
        batch = [event(i, "review", user="reviewer", text=said) for i in reviewed]
        new = await service.add_events(batch)
        before = len(service._live.now.users.events("reviewer"))
        await asyncio.gather(*service._tasks)
        return new, before

    assert done(whole()) == (20, 20)
    felt = [each.sentiment for each in service._live.now.users.events("reviewer")]
    assert all(felt)


def test_an_interest_that_is_none_is_refused_and_nothing_kept(service: Service) -> None:
    with pytest.raises(Refused):
        done(service.edit_interests(USER, {"attribute:domain:boat": "pinned"}))

    assert "attribute:domain:boat" not in service._live.now.users.edits(USER)


def test_what_a_request_asks_for_is_not_muted_this_time(service: Service) -> None:
    done(service.edit_interests("mutes-books", {"attribute:domain:book": "muted"}))

    answer = asked(service, user="mutes-books", query="only books")

    assert {each.attributes["domain"] for each in answer.items} == {("book",)}
    assert all(each.parts.interests == 0 for each in answer.items)


def test_an_answer_says_what_may_surprise(service: Service) -> None:
    every = items(service)
    done(service.add_events([event(i, "view", user="saw-all") for i in every]))

    all_seen = asked(service, user="saw-all", k=5)
    unknown = asked(service, candidates=("nowhere", every[0]))

    assert "include_seen" in " ".join(all_seen.notes)
    assert "1 of the candidates" in " ".join(unknown.notes)


def test_similar_items_do_not_include_the_item(service: Service) -> None:
    item = items(service)[0]

    found = service.similar(item, 5)

    assert item not in [each.item for each in found]
    assert [each.score for each in found] == sorted(
        (each.score for each in found), reverse=True
    )


def test_a_list_for_a_stranger_is_more_diverse(service: Service) -> None:
    usual, plain = asked(service), asked(service, diversity=0.0)

    assert usual.diversity > plain.diversity


def test_a_site_whose_policy_forbids_it_compares_no_ways_to_serve(
    service: Service,
) -> None:
    lists = [asked(service, user=USER) for _ in range(30)]

    assert len({each.alpha for each in lists}) == 1
    assert service._live.now.adaptation is None


@pytest.mark.slow
def test_comparing_two_ways_keeps_every_promise_of_a_list(
    tmp_path: Path, cache: Path
) -> None:
    site = write_site(
        tmp_path / "site",
        people=12,
        cache=str(cache),
        releases=("popularity", "serving"),
    )
    made = open_service(site.folder, None)
    try:
        made._rng = np.random.default_rng(1)
        answers = [asked(made, user=USER, k=10, explain=True) for _ in range(40)]
        assert made._live.now.adaptation is not None
        assert all(len(set(ids(answer))) == 10 for answer in answers)
    finally:
        made.close()
    with read_only(site.folder) as store:
        logged = store.execute("SELECT arms, items FROM shown").fetchall()
    compared = [json.loads(items) for arms, items in logged if json.loads(arms)]
    assert 0 < len(compared) < 40  # some lists, not all
    assert all({team for _, team, *_ in each} == {"a", "b"} for each in compared)


@pytest.mark.slow
def test_its_end_does_not_wait_for_a_renewal_that_lasts(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = write_site(tmp_path / "site", people=12, cache=str(cache))
    made, begun, stop = (
        open_service(site.folder, None),
        threading.Event(),
        threading.Event(),
    )

    def lasts(*_: object) -> None:
        begun.set()
        stop.wait()

    monkeypatch.setattr(client.serving.live, "load", lasts)
    (site.folder / FILE).write_text("explore = 0.1\n", "utf-8")
    assert begun.wait(10)
    before = time.monotonic()

    nothing_goes_on = made.close()

    assert not nothing_goes_on
    assert time.monotonic() - before < 10
    stop.set()


def test_the_same_user_forgotten_is_a_stranger(service: Service) -> None:
    user = "user-00005"
    known = asked(service, user=user)
    done(service.remove_user(user))

    again = asked(service, user=user)

    stranger = asked(service, user="never-seen")
    assert replace(again, list="") == replace(stranger, list="")
    assert ids(known) != ids(again)
    with pytest.raises(NotHere):
        service.interests(user)


def test_nothing_is_made_in_a_folder_that_is_no_site(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no site"):
        open_service(tmp_path, None)

    assert list(tmp_path.iterdir()) == []
