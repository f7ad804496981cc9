"""Flower's entry into a site. Whatever goes wrong, only a class name travels."""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

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
    return _answered(message, context, reply)


@app.query("release")
def release(message: Message, context: Context) -> Message:
    """Answer a release with one word: that it was kept, or why not."""
    return _answered(message, context, receipt)


def _answered(
    message: Message, context: Context, answer: Callable[[RecordDict, Path], RecordDict]
) -> Message:
    """Return what the site answers; a node that does not know its site refuses."""
    try:
        log_as_asked()
        folder = site_folder(context)
    except Exception as error:  # noqa: BLE001  # the edge: Flower would send the text
        return Message(pack_refusal(NAMELESS, _reason(error)), reply_to=message)
    return Message(answer(message.content, folder), reply_to=message)


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


def reply(content: RecordDict, folder: Path) -> RecordDict:
    """Return what leaves the site: a sealed update, or a refusal's class name.

    Guarantee: no exception's text leaves, whatever raised it.
    """
    from client.round import answer  # noqa: PLC0415  # torch, only when there is work
    from client.site import open_site  # noqa: PLC0415

    site = plan = None
    with about() as known:
        try:
            site = open_site(folder)
            known["site"] = site.settings.name
            plan, adapter, seen = open_plan(content)
            known |= {"run": plan.run, "round": plan.number}
            log.info("asked")
            packed = pack_reply(answer(site, plan, adapter, seen))
            log.info("answered")
            return packed
        except Exception as error:  # noqa: BLE001  # the edge: Flower would send the text
            reason = _reason(error)
            if site and not isinstance(error, BudgetSpent | LedgerBroken | LedgerBusy):
                _record(site, plan, reason)
            return pack_refusal(site.settings.name if site else folder.name, reason)


def receipt(content: RecordDict, folder: Path) -> RecordDict:
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
