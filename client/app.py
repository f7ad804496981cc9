"""Flower's entry into a site. Whatever goes wrong, only a class name travels."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from traceback import extract_tb
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
from shared.protocol import RoundPlan
from shared.wire import open_plan, pack_refusal, pack_reply

if TYPE_CHECKING:
    from client.site import Site

NAMELESS = "unknown"  # a node that does not know which site it is

log = logging.getLogger("tacit.site")
app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer a round plan with a sealed update or a refusal."""
    try:
        folder = site_folder(context)
    except Exception as error:  # noqa: BLE001  # the edge: Flower would send the text
        return Message(pack_refusal(NAMELESS, _reason(error)), reply_to=message)
    return Message(reply(message.content, folder), reply_to=message)


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
    try:
        site = open_site(folder)
        plan, adapter, seen = open_plan(content)
        return pack_reply(answer(site, plan, adapter, seen))
    except Exception as error:  # noqa: BLE001  # the edge: Flower would send the text
        reason = _reason(error)
        if site and not isinstance(error, BudgetSpent | LedgerBroken | LedgerBusy):
            _record(site, plan, reason)
        return pack_refusal(site.settings.name if site else folder.name, reason)


def _record(site: "Site", plan: RoundPlan | None, reason: str) -> None:
    """Write the refusal into the ledger; one that cannot be written stays a refusal."""
    run, number = (plan.run, plan.number) if plan else ("", 0)
    with suppress(Exception):
        site.open_ledger().refused(run, number, reason)


def _reason(error: Exception) -> str:
    """Return the class name that may leave, and log what the site may know."""
    ours = isinstance(error, TacitError)
    reason = type(error).__name__ if ours else "InternalError"
    log.warning("%s: %s", reason, error if ours else _places(error))
    return reason


def _places(error: Exception) -> str:
    """Return the class of an unforeseen error and where it arose; never its text."""
    frames = extract_tb(error.__traceback__)
    places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__} at {places}"
