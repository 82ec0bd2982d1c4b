"""`partgen app`: the applications in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.app.settings import PORT
from pipeline.project import find_models
from stages.results import RESULTS

application = typer.Typer()


@application.command("app")
def app(
    host: Annotated[str, typer.Option(help="Address to serve; beyond this machine it asks for a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = PORT,
    models: Annotated[
        Path | None,
        typer.Option(help="Folder of the models; the project's data/models, or those that come with PartGen."),
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of the results; those that are there appear in it.")] = RESULTS,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
) -> None:
    """Open the applications in a browser: take objects apart, correct and edit their parts, and take them away.

    For example: partgen app, or partgen app --results work/chairs --port 0
    """
    found = find_models(models)
    from pipeline.app.run import serve

    serve(host, port, results, found, not no_browser)
