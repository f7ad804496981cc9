"""``tacit site serve``, and ``rollback`` to a release that came earlier."""

import os
from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(help="The site's folder.")]
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)


def serve(  # noqa: PLR0913  # one parameter for each option of the command
    folder: Folder = Path(),
    *,
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Address to listen at; beyond this machine with TLS.")
    ] = "127.0.0.1",
    name: Annotated[
        list[str] | None,
        typer.Option(help="A name under which the site is asked; may be repeated."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer.")] = 1,
    release: Annotated[
        Path | None,
        typer.Option(
            help="Serve this release's folder, such as a simulation's adapter, in "
            "place of the one in force. Nobody's signature is asked for."
        ),
    ] = None,
    no_page: Annotated[
        bool,
        typer.Option(
            "--no-page", help="Make and print no key for the page; for a service."
        ),
    ] = False,
    cert: Annotated[Path | None, typer.Option(help="TLS certificate (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
) -> None:
    """Serve recommendations of the site in FOLDER over HTTP, with a page.

    What users do is kept in FOLDER and leaves it by no way. API keys are made with
    tacit site key; the page's own key is in the address that is printed, and lives as
    long as this command.
    """
    os.environ.update(ONE_THREAD)  # before numpy and torch are loaded: much faster so
    from client.serving.premises import Premises  # noqa: PLC0415

    premises = Premises(
        folder=str(folder.resolve()),
        release=str(release.resolve()) if release else "",
        host=host,
        port=port,
        names=tuple(name or ()),
        cert=str(cert or ""),
        key=str(key or ""),
    )
    premises.check()  # before all the rest is loaded, which takes seconds
    from client.serving.process import serve_forever  # noqa: PLC0415

    serve_forever(premises, workers, typer.echo, page=not no_page)


def rollback(
    release: Annotated[str, typer.Argument(help="Such as spring/3.")],
    folder: Folder = Path(),
) -> None:
    """Serve RELEASE again, which the site in FOLDER received earlier.

    It holds until the operator of the federation puts a newer one in force. A tacit
    site serve that runs changes over by itself.
    """
    from client.releases import rollback as back_to  # noqa: PLC0415
    from client.site import open_site  # noqa: PLC0415

    back_to(open_site(folder), release)
    typer.echo(f"{release} is in force at {folder}")
