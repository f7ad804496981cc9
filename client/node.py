"""The site's SuperNode: Flower's own, save that it reads no bundle but approved ones.

    python -m client.node --approvals SITE/approved <options of flower-supernode>

Flower runs whatever bundle its server sends. Here each one is held against the site's
approvals before Flower looks into it. One that is not approved is answered with
Flower's own error (code 7) and noted by its digest; the node goes on. The one private
function of Flower that is wrapped for this was read in one version, so another version
is refused.
"""

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from client.approval import clear_refused, note_refused, require_approved
from client.contact import heard
from shared.bundle import bundle_digest
from shared.errors import CodeRefused, ConfigError, TacitError
from shared.logs import log_as_asked
from shared.programs import QUIET

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.proto.message_pb2 import ObjectTree
    from flwr.supercore.fab import Fab
    from flwr.supercore.run import Run

FLOWER = "1.41.0"
P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("tacit.node")


def main(arguments: Sequence[str]) -> None:
    """Run the SuperNode until it is told to end.

    Raises:
        ConfigError: If Flower is of another version, or ``FLWR_HOME`` is not set.
    """
    parser = argparse.ArgumentParser(prog="client.node", allow_abbrev=False)
    parser.add_argument("--approvals", type=Path, required=True)
    own, flowers = parser.parse_known_args(arguments)
    log_as_asked()
    require_flower()
    empty_apps()
    os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})
    guard(own.approvals.resolve().parent)
    from flwr.supernode.cli.flower_supernode import flower_supernode  # noqa: PLC0415

    sys.argv = ["flower-supernode", *flowers]
    flower_supernode()


def require_flower() -> None:
    """Check that Flower is of the version that ``guard`` was made for.

    Raises:
        ConfigError: If it is of another one.
    """
    found = version("flwr")
    if found != FLOWER:
        raise ConfigError(
            f"flwr {found} is installed; code approval was made for {FLOWER} alone: "
            f"pip install flwr=={FLOWER}"
        )


def empty_apps() -> None:
    """Remove what Flower unpacked earlier, which it would run as it lies.

    Raises:
        ConfigError: If ``FLWR_HOME``, the node's own folder, is not set.
    """
    home = os.environ.get("FLWR_HOME")
    if not home:
        raise ConfigError("FLWR_HOME is not set; the node needs a folder of its own")
    apps = Path(home, "apps")
    if apps.is_symlink() or apps.is_file():
        apps.unlink()
    elif apps.exists():
        shutil.rmtree(apps)


def guard(site: Path) -> None:
    """Have this process refuse every bundle that the site in ``site`` did not approve.

    Guarantee: Flower neither reads nor keeps a bundle before its approval is found.
    """
    from flwr.app import Message  # noqa: PLC0415
    from flwr.supernode import start_client_internal as flower  # noqa: PLC0415

    pull = flower._pull_and_store_message  # noqa: SLF001  # see the module's docstring

    def pull_approved(
        *,
        receive: "Callable[[], tuple[Message, ObjectTree] | None]",
        get_run: "Callable[[int], Run]",
        get_fab: "Callable[[str, int], Fab]",
        **others: Any,
    ) -> int | None:
        received: list[tuple[Message, ObjectTree] | None] = []
        runs: list[Run] = []

        def hear() -> "tuple[Message, ObjectTree] | None":
            answer = receive()
            heard(site, at_work=answer is not None)
            return answer

        try:
            return pull(
                receive=_kept(hear, received),
                get_run=_kept(get_run, runs),
                get_fab=lambda *named: checked(site, runs[-1], get_fab(*named)),
                **others,
            )
        except TacitError as refusal:
            if not (received and received[-1]):
                raise
            log.warning("%s", refusal)
            message, _ = received[-1]
            flower._insert_message(  # noqa: SLF001  # as Flower answers its own checks
                Message(flower.FAB_VERIFICATION_ERROR, reply_to=message),
                others["state"],
                others["object_store"],
            )
            return message.metadata.run_id

    flower._pull_and_store_message = pull_approved  # type: ignore[assignment]  # noqa: SLF001  # all by keyword


def checked(site: Path, run: "Run", fab: "Fab") -> "Fab":
    """Return the bundle if the site approved it and the run is about no other.

    Flower finds the folder of the code by what the *run* says, so a run that names
    something else could lead it elsewhere on the disk.

    Raises:
        CodeRefused: If not; the bundle is noted for ``tacit site status``.
    """
    digest = bundle_digest(fab.content)
    try:
        require_approved(site, fab.content)
    except TacitError:
        with suppress(OSError):  # a full disk must not end the node
            note_refused(site, digest)
        raise
    from flwr.cli.config_utils import get_fab_metadata  # noqa: PLC0415
    from flwr.supercore.constant import TaskType  # noqa: PLC0415

    named = (run.fab_id, run.fab_version, run.fab_hash, fab.hash_str)
    if named != (*get_fab_metadata(fab.content), digest, digest):
        raise CodeRefused(f"the run does not name the bundle it came with, {digest}")
    if run.primary_task_type == TaskType.AGENT_APP:
        raise CodeRefused("the run asks for an agent, which is no code of the bundle")
    unpack(fab.content)
    with suppress(OSError):
        clear_refused(site)
    return fab


def unpack(content: bytes) -> None:
    """Have Flower unpack an approved bundle whole, or leave nothing of it.

    Its apps would run what is there as it lies, be it half of a bundle.

    Raises:
        CodeRefused: If there is no room; the next message tries again.
    """
    from flwr.cli.install import install_from_fab  # noqa: PLC0415

    try:
        install_from_fab(content, skip_prompt=True)
    except OSError as error:
        empty_apps()
        raise CodeRefused(
            f"bundle {bundle_digest(content)} cannot be unpacked "
            f"({type(error).__name__}); make room on the disk of the site's folder"
        ) from None


def _kept(call: Callable[P, T], into: list[T]) -> Callable[P, T]:
    """Return ``call``, each of whose answers is also put into a list."""

    def calling(*args: P.args, **kwargs: P.kwargs) -> T:
        into.append(call(*args, **kwargs))
        return into[-1]

    return calling


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except TacitError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
