"""The server's live page; it shows, and can do nothing."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI

from server.live.exposition import Figures
from server.live.view import View, look, unready
from shared.page import page_app

if TYPE_CHECKING:
    from server.flower import Node


def app(folder: Path, nodes: "Callable[[], Sequence[Node] | None]") -> FastAPI:
    """Return the page of the operator's ``folder``, for ``shared.page.serve``.

    Args:
        folder: The operator's.
        nodes: What Flower says of nodes; None where it does not answer.
    """

    def view() -> View:
        return look(folder, nodes(), datetime.now(UTC))

    return page_app(view, Path(__file__).parent, unready=unready, figures=Figures)
