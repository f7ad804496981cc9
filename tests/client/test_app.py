"""The edge of a site: whatever goes wrong, a class name leaves and is recorded."""

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

import client.releases
import client.round
import client.workbench
from client.app import app, receipt, reply, site_folder
from client.releases import current
from client.site import Site
from server.delivery import deliver
from server.operator import Operator
from server.releases import InForce, set_current
from shared import errors
from shared.errors import (
    ConfigError,
    EgressRefused,
    LedgerBusy,
    ModelError,
    TacitError,
)
from shared.invitation import to_text
from shared.wire import (
    open_refusal,
    open_reply,
    pack_plan,
    pack_release,
    with_witness,
)
from simulations.grid import LocalGrid, enter_run
from tests.factories import mechanism, tiny_plan, write_site, zeros
from tests.server.premises import an_operator, publish
from tests.shared.papers import an_invitation
from tests.standin import a_witness

QUOTED = "user-7700017077 liked film-0007"


def instruction(**changes: object) -> RecordDict:
    asked = tiny_plan(**changes)
    return pack_plan(asked, zeros(asked))


def refused(site: Site) -> list[dict[str, Any]]:
    """The refusals that stand in the ledger: round of run, and why."""
    names = ("run", "round", "reason")
    return [
        {name: entry.body[name] for name in names}
        for entry in site.open_ledger().entries()
        if entry.state == "refused"
    ]


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_a_round_that_is_followed_gives_a_reply_and_no_refusal(tmp_path: Path) -> None:
    site = write_site(tmp_path, 20)

    content = reply(instruction(), tmp_path)

    assert open_refusal(content) is None
    assert open_reply(content, tiny_plan().shapes).update.site == "site-1"
    assert refused(site) == []


def test_a_refusal_of_the_policy_is_recorded_by_its_class(tmp_path: Path) -> None:
    site = write_site(tmp_path, serve_only=True)

    content = reply(instruction(number=3), tmp_path)

    assert open_refusal(content) == ("site-1", "PolicyRefused")
    assert refused(site) == [{"run": "run", "round": 3, "reason": "PolicyRefused"}]


def test_a_plan_that_cannot_be_read_is_recorded_without_run_and_round(
    tmp_path: Path,
) -> None:
    site, content = write_site(tmp_path), instruction()
    content["plan"] = ConfigRecord({"json": "{}"})

    assert open_refusal(reply(content, tmp_path)) == ("site-1", "ConfigError")
    assert refused(site) == [{"run": "", "round": 0, "reason": "ConfigError"}]


def test_a_spent_budget_is_recorded_once(tmp_path: Path) -> None:
    """The ledger writes it where it compares; the edge does not write it again."""
    site = write_site(tmp_path, epsilon=0.1)

    content = reply(instruction(), tmp_path)

    assert open_refusal(content) == ("site-1", "BudgetSpent")
    assert refused(site) == [{"run": "run", "round": 1, "reason": "BudgetSpent"}]


ALL = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, TacitError)
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_of_ours_travels_by_its_name_alone(
    error: type[TacitError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_site(tmp_path)
    monkeypatch.setattr(client.round, "answer", raising(error(QUOTED)))

    content = reply(instruction(), tmp_path)

    assert len(ALL) >= 13
    assert open_refusal(content) == ("site-1", error.__name__)
    assert "17" not in str(content)


def test_what_the_door_refuses_after_the_charge_is_recorded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = write_site(tmp_path, 20)
    error = EgressRefused("did not change")
    monkeypatch.setattr(client.round, "release_update", raising(error))

    content = reply(instruction(), tmp_path)

    assert open_refusal(content) == ("site-1", "EgressRefused")
    assert refused(site) == [{"run": "run", "round": 1, "reason": "EgressRefused"}]
    assert len(site.open_ledger().events()) == 2  # it stays charged


@pytest.mark.parametrize(
    "error",
    [
        ValueError(QUOTED),
        KeyError(QUOTED),
        RuntimeError(QUOTED, QUOTED),
        OSError(5, QUOTED, QUOTED),
        MemoryError(QUOTED),
        type("User17", (Exception,), {})(QUOTED),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_text_of_an_unforeseen_error_is_neither_sent_nor_logged_nor_recorded(
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A careless library quotes what it was given: here, while it reads the data."""
    caplog.set_level(logging.DEBUG)
    site = write_site(tmp_path, 20)
    monkeypatch.setattr(client.workbench, "load", raising(error))

    content = reply(instruction(), tmp_path)

    assert dict(content.config_records["refusal"]) == {
        "site": "site-1",
        "reason": "InternalError",
    }
    assert [*content] == ["refusal"]
    assert refused(site) == [{"run": "run", "round": 1, "reason": "InternalError"}]
    lines = [entry.line for entry in site.open_ledger().entries()]
    for text in (str(content), caplog.text, *lines):
        assert "7700017077" not in text
        assert "film" not in text
    assert "InternalError" in caplog.text


def test_the_log_says_where_an_unforeseen_error_arose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_site(tmp_path)
    error = ValueError(QUOTED)
    monkeypatch.setattr(client.round, "answer", raising(error))

    reply(instruction(), tmp_path)

    (line,) = [record.getMessage() for record in caplog.records]
    here = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(here.filename).name}:{here.lineno}"
    assert line.startswith(f"InternalError: ValueError at {place} < app.py:")


def test_an_error_inside_an_error_is_not_told_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        try:
            raise ValueError(QUOTED)
        except ValueError as error:
            raise ConfigError("data.toml is odd") from error

    write_site(tmp_path)
    monkeypatch.setattr(client.round, "answer", fail)

    content = reply(instruction(), tmp_path)

    assert open_refusal(content) == ("site-1", "ConfigError")
    assert "7700017077" not in caplog.text


@pytest.mark.parametrize(
    "error", [LedgerBusy("busy"), OSError("disk full"), ValueError(QUOTED)]
)
def test_a_refusal_that_cannot_be_recorded_stays_a_refusal(
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_site(tmp_path, serve_only=True)
    monkeypatch.setattr(Site, "open_ledger", raising(error))

    content = reply(instruction(), tmp_path)

    assert open_refusal(content) == ("site-1", "PolicyRefused")
    assert "7700017077" not in caplog.text


def test_a_ledger_that_cannot_be_believed_is_not_written_to(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    site.open_ledger()
    (tmp_path / "ledger.sqlite").unlink()

    content = reply(instruction(), tmp_path)

    assert open_refusal(content) == ("site-1", "LedgerBroken")
    assert not site.ledger.exists()


def test_a_ledger_that_is_lost_is_not_begun_anew_to_record_its_loss(
    tmp_path: Path,
) -> None:
    """The server remembers one; nothing of it is left here."""
    site = write_site(tmp_path)

    content = reply(with_witness(instruction(), a_witness("site-1", 3)), tmp_path)

    assert open_refusal(content) == ("site-1", "LedgerBroken")
    assert {path.name for path in tmp_path.iterdir()} == {"site.toml", "policy.toml"}
    assert not site.ledger.exists()


def test_a_site_that_is_in_a_round_says_so_and_writes_nothing_between(
    tmp_path: Path,
) -> None:
    site = write_site(tmp_path)

    with site.open_ledger().alone():
        content = reply(instruction(), tmp_path)

    assert open_refusal(content) == ("site-1", "LedgerBusy")
    assert refused(site) == []


def test_a_folder_that_is_no_site_answers_under_the_folders_name(
    tmp_path: Path,
) -> None:
    (tmp_path / "north").mkdir()

    content = reply(instruction(), tmp_path / "north")

    assert open_refusal(content) == ("north", "ConfigError")
    assert [*(tmp_path / "north").iterdir()] == []


def test_a_site_that_is_stopped_by_its_operator_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_site(tmp_path)
    monkeypatch.setattr(client.round, "answer", raising(KeyboardInterrupt()))

    with pytest.raises(KeyboardInterrupt):
        reply(instruction(), tmp_path)


def context(**node: str | int) -> Context:
    return Context(1, 1, dict(node), RecordDict(), {})


def test_a_node_says_itself_where_its_site_lies(tmp_path: Path) -> None:
    assert site_folder(context(site=str(tmp_path))) == tmp_path


def test_a_numbered_node_takes_the_folder_of_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "0-notes.txt").touch()
    monkeypatch.setenv("TACIT_SITES", str(tmp_path))

    found = [site_folder(context(**{"partition-id": n})).name for n in range(3)]

    assert found == ["a", "b", "c"]


@pytest.mark.parametrize("node", [{}, {"partition-id": 0}, {"partition-id": 9}])
def test_a_node_that_does_not_know_its_site_sends_no_text_either(
    node: dict[str, str | int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower itself would send the error's text, and the path in it."""
    monkeypatch.delenv("TACIT_SITES", raising=False)
    if node.get("partition-id") == 9:
        monkeypatch.setenv("TACIT_SITES", str(tmp_path))
    enter_run()
    message = Message(instruction(), 1, "train")
    message.metadata.__dict__["_message_id"] = "1"

    answer = app(message, context(**node))

    refusal = open_refusal(answer.content)
    assert refusal is not None
    assert refusal[0] == "unknown"
    assert refusal[1] in {"ConfigError", "InternalError"}
    assert str(tmp_path) not in str(answer.content)


def test_flower_carries_the_answer_of_the_app(tmp_path: Path) -> None:
    write_site(tmp_path, serve_only=True)
    grid = LocalGrid(app, {"site-1": {"site": str(tmp_path)}})
    noise = mechanism(sigma=0.0, prior_sigma=0.0)
    message = Message(instruction(mechanism=noise), 1, "train")

    (answer,) = grid.send_and_receive([message])

    assert not answer.has_error()
    assert open_refusal(answer.content) == ("site-1", "PolicyRefused")


def a_release(folder: Path) -> tuple[InForce, Operator]:
    """What an operator put in force, and the operator."""
    operator = an_operator(folder)
    publish(operator, "spring", 1)
    put = set_current(operator.folder, "spring")
    assert put is not None
    return put, operator


def invite(site: Site, operator: Operator) -> None:
    key = operator.signing_key()
    text = to_text(an_invitation(operator=operator.public_key()), key)
    (site.folder / "join.toml").write_text(text, "utf-8")


def test_a_release_is_kept_and_answered_with_one_word(tmp_path: Path) -> None:
    put, operator = a_release(tmp_path / "operator")
    site = write_site(tmp_path / "site")
    invite(site, operator)
    grid = LocalGrid(app, {"site-1": {"site": str(site.folder)}})

    told = deliver(grid, put, ["site-1"], 5)

    assert told == {"site-1": "Kept"}
    assert current(site) == site.folder / "releases" / "spring-1"
    assert not site.ledger.exists()  # a release costs nothing and lets nothing out


def test_all_that_leaves_for_a_release_is_a_name_and_a_word(tmp_path: Path) -> None:
    put, operator = a_release(tmp_path / "operator")
    site, content = write_site(tmp_path), pack_release(put.release, put.pointer)

    refused = receipt(content, tmp_path)
    invite(site, operator)
    kept = receipt(content, tmp_path)

    for answer, word in ((refused, "ConfigError"), (kept, "Kept")):
        assert [*answer] == ["refusal"]
        assert dict(answer.config_records["refusal"]) == {
            "site": "site-1",
            "reason": word,
        }


@pytest.mark.parametrize("error", [ModelError(QUOTED), ValueError(QUOTED)])
def test_a_release_that_is_refused_is_refused_by_a_class_name(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, _ = a_release(tmp_path / "operator")
    write_site(tmp_path)
    monkeypatch.setattr(client.releases, "receive", raising(error))

    answer = receipt(pack_release(put.release, put.pointer), tmp_path)

    ours = isinstance(error, TacitError)
    reason = type(error).__name__ if ours else "InternalError"
    assert open_refusal(answer) == ("site-1", reason)
    assert "17" not in str(answer)


def test_a_folder_that_is_no_site_keeps_no_release(tmp_path: Path) -> None:
    put, _ = a_release(tmp_path / "operator")
    (tmp_path / "north").mkdir()

    answer = receipt(pack_release(put.release, put.pointer), tmp_path / "north")

    assert open_refusal(answer) == ("north", "ConfigError")
    assert [*(tmp_path / "north").iterdir()] == []
