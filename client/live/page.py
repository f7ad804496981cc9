"""A site's live page, for the site's own operator; it shows, and can do nothing."""

from datetime import UTC, datetime
from pathlib import Path

from fastapi import FastAPI

from client.live.exposition import Figures
from client.live.view import View, look, unready
from shared.page import page_app


def app(folder: Path) -> FastAPI:
    """Return the page of the site in ``folder``, for ``shared.page.serve``."""

    def view() -> View:
        return look(folder, datetime.now(UTC))

    return page_app(view, Path(__file__).parent, unready=unready, figures=Figures)
