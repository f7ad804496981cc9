"""Flower's entry into a site. Whatever goes wrong, only a class name travels."""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

from client.warm import ASKED, ask
from shared.errors import (
    BudgetSpent,
    ConfigError,
    LedgerBroken,
    LedgerBusy,
    TacitError,
)
from shared.logs import about, log_as_asked, told
from shared.protocol import RoundPlan
from shared.wire import open_plan, open_release, pack_refusal, pack_reply

if TYPE_CHECKING:
    from client.site import Site

NAMELESS = "unknown"  # a node that does not know which site it is
KEPT = "Kept"  # the one word for a release that was kept

log = logging.getLogger("tacit.site")
app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer a round plan with a sealed update or a refusal."""
    return _answered(message, context, "train")


@app.query("release")
def release(message: Message, context: Context) -> Message:
    """Answer a release with one word: that it was kept, or why not."""
    return _answered(message, context, "release")


def _answered(message: Message, context: Context, kind: str) -> Message:
    """Return what the site answers; a node that does not know its site refuses."""
    try:
        log_as_asked()
        folder = site_folder(context)
    except Exception as error:  # noqa: BLE001  # the edge: Flower would send the text
        return Message(pack_refusal(NAMELESS, _reason(error)), reply_to=message)
    return Message(_given(kind, message.content, folder), reply_to=message)


def _given(kind: str, content: RecordDict, folder: Path) -> RecordDict:
    """Return the site's answer: its warm worker's where it has one, or our own."""
    lost = None
    if os.environ.get(ASKED):
        try:
            given = ask(folder, kind, _to_bytes(content))
            if given is not None:
                return _from_bytes(given)
        except Exception as error:  # noqa: BLE001  # Flower would send the text
            log.warning("the worker was lost: %s", told(error))
            lost = error
    return ANSWERS[kind](content, folder, lost)


def respond(kind: str, content: bytes, folder: Path) -> bytes:
    """Return what leaves the site, as a worker is asked for it and answers."""
    return _to_bytes(ANSWERS[kind](_from_bytes(content), folder, None))


def site_folder(context: Context) -> Path:
    """Return the site's folder, as the site itself names it, never the server.

    A deployed or in-process node names it in its node config (``site``); Flower's own
    simulation gives nodes a number only, which picks one of the folders under
    ``TACIT_SITES`` in the order of their names.
    """
    named = context.node_config.get("site")
    if named is not None:
        return Path(str(named))
    sites, number = (
        os.environ.get("TACIT_SITES"),
        context.node_config.get("partition-id"),
    )
    if sites is None or number is None:
        raise ConfigError("node config has no 'site' and TACIT_SITES is not set")
    return sorted(p for p in Path(sites).iterdir() if p.is_dir())[int(str(number))]


def reply(
    content: RecordDict, folder: Path, lost: Exception | None = None
) -> RecordDict:
    """Return what leaves the site: a sealed update, or a refusal's class name.

    Guarantee: no exception's text leaves, whatever raised it. What a process that died
    over the same message had charged is not charged again.

    Args:
        content: The instruction.
        folder: The site's.
        lost: How that process died, if one did.
    """
    from client.round import answer  # noqa: PLC0415  # torch, only when there is work
    from client.site import open_site  # noqa: PLC0415
    from client.version import held  # noqa: PLC0415

    site = plan = None
    with about() as known:
        try:
            site = open_site(folder)
            known["site"] = site.settings.name
            plan, adapter, seen = open_plan(content, partial(held, site))
            known |= {"run": plan.run, "round": plan.number}
            log.info("asked")
            if lost and _is_charged(site, plan):
                raise lost
            packed = pack_reply(answer(site, plan, adapter, seen))
            log.info("answered")
            return packed
        except Exception as error:  # noqa: BLE001  # the edge: Flower would send the text
            reason = _reason(error)
            if site and not isinstance(error, BudgetSpent | LedgerBroken | LedgerBusy):
                _record(site, plan, reason)
            return pack_refusal(site.settings.name if site else folder.name, reason)


def receipt(
    content: RecordDict, folder: Path, _lost: Exception | None = None
) -> RecordDict:
    """Keep a release; what leaves is ``KEPT`` or the class name of an error."""
    from client.releases import receive  # noqa: PLC0415
    from client.site import open_site  # noqa: PLC0415

    name = folder.name
    with about() as known:
        try:
            site = open_site(folder)
            name = known["site"] = site.settings.name
            kept = receive(site, *open_release(content))
            log.info("release %s kept", kept.name)
            return pack_refusal(name, KEPT)
        except Exception as error:  # noqa: BLE001  # the edge: Flower would send the text
            return pack_refusal(name, _reason(error))


ANSWERS: dict[str, Callable[[RecordDict, Path, Exception | None], RecordDict]] = {
    "train": reply,
    "release": receipt,
}


def _is_charged(site: "Site", plan: RoundPlan) -> bool:
    """Return whether the round was charged and nothing was sealed for it to send."""
    ledger = site.open_ledger()
    here = (plan.run, plan.number)
    return ledger.sealed_for(*here, "training") is None and any(
        (entry.body["run"], entry.body["round"]) == here
        for entry in ledger.entries()
        if entry.state == "planned"
    )


def _to_bytes(content: RecordDict) -> bytes:
    return bytes(recorddict_to_proto(content).SerializeToString())


def _from_bytes(content: bytes) -> RecordDict:
    return recorddict_from_proto(ProtoRecordDict.FromString(content))


def _record(site: "Site", plan: RoundPlan | None, reason: str) -> None:
    """Write the refusal into the ledger; one that cannot be written stays a refusal."""
    run, number = (plan.run, plan.number) if plan else ("", 0)
    with suppress(Exception):
        site.open_ledger().refused(run, number, reason)


def _reason(error: Exception) -> str:
    """Return the class name that may leave, and log what the site may know."""
    ours = isinstance(error, TacitError)
    reason = type(error).__name__ if ours else "InternalError"
    log.warning("%s", told(error) if ours else f"{reason}: {told(error)}")
    return reason
