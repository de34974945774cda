"""The command serve: a study as a Prefect deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.studies import Overrides


def serve(
    file: Annotated[Path, typer.Argument(readable=False, help="Study file.")],
    cron: Annotated[str | None, typer.Option(help='Schedule, e.g. "0 3 * * *" for every night at three.')] = None,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Name of the deployment; by default the file's.")] = None,
    watch: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Run when another member of a series is complete in this folder."),
    ] = None,
) -> None:
    """Serve a study as a Prefect deployment: on a schedule, on new checkpoints, or for runs started from Prefect."""
    from indexscope.flows.serving import serve_study

    serve_study(file, cron, overrides or [], name, watch)


COMMAND = Command(
    "serve",
    serve,
    place=70,
    examples=("indexscope serve study.yaml --cron '0 3 * * *'", "indexscope serve study.yaml --watch runs/"),
)
