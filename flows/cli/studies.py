"""What the commands that run a study share: its options, and the run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from indexscope.flows.errors import complain

File = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", readable=False, help="Study file; without one, the built-in study.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a value for this run, e.g. extract.chunk=128."),
]
Refresh = Annotated[
    list[str] | None,
    typer.Option(
        "--refresh",
        metavar="STEP",
        help="Compute a step even if the store has it: extract, probe, audit, profile, analyze (or one analysis, e.g. "
        "clustering), compare, report, all. What follows runs again if other bytes come out.",
    ),
]
Full = Annotated[
    bool, typer.Option("--full-fingerprint", help="Hash every byte of the checkpoints; as --set fingerprint=full.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run and what the store has; run no model.")]


def settings(overrides: list[str] | None, full: bool) -> list[str]:
    """What is set for this run."""
    return [*(overrides or []), *(["fingerprint=full"] if full else [])]


def run(name: str, file: Path | None, overrides: list[str], refresh: list[str] | None) -> None:
    """Run one of the flows, tell what it has to say, and exit with its code; the last line on stdout is its folder."""
    from indexscope.flows.run import run_flow

    outcome = run_flow(name, None if file is None else str(file), overrides, refresh)
    complain(list(outcome.messages), outcome.code)
    if outcome.folder is not None:
        from indexscope.flows.narrate import short  # it imports Prefect, whose settings `run_flow` has checked

        typer.echo(short(outcome.folder))
    raise typer.Exit(outcome.code)
