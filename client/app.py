"""Flower's entry into a site. Whatever goes wrong, only a class name travels."""

import os
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from shared.errors import ConfigError, TacitError
from shared.wire import open_plan, pack_refusal, pack_update

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer a round plan with a sealed update or a refusal."""
    return Message(reply(message.content, site_folder(context)), reply_to=message)


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

    name = folder.name
    try:
        site = open_site(folder)
        name = site.settings.name
        return pack_update(answer(site, *open_plan(content)))
    except TacitError as error:
        return pack_refusal(name, type(error).__name__)
    except Exception:  # noqa: BLE001  # the edge: Flower would send the text
        return pack_refusal(name, "InternalError")
