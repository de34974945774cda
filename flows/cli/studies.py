"""What the commands that run a study share: its options, and the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from indexscope.flows.errors import complain
from indexscope.flows.garbage import as_usual

if TYPE_CHECKING:
    from indexscope.flows.study.outcome import Outcome

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
        help="Compute a step even if the store has it: extract, closeup, reruns, audit, profile, analyze (or one "
        "analysis, e.g. clustering), compare, report, all. What follows runs again if other bytes come out.",
    ),
]
Full = Annotated[
    bool, typer.Option("--full-fingerprint", help="Hash every byte of the checkpoints; as --set fingerprint=full.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run and what the store has; run no model.")]


def settings(overrides: list[str] | None, full: bool) -> list[str]:
    """What is set for this run."""
    return [*(overrides or []), *(["fingerprint=full"] if full else [])]


def run(name: str, file: Path | None, overrides: list[str], refresh: list[str] | None, browse: bool = False) -> None:
    """Run one of the flows, tell what it has to say, and exit with its code; the last line on stdout is its folder.

    Args:
        name: The flow.
        file: The study file; None is the built-in study.
        overrides: Settings that go before the file's.
        refresh: Steps to compute in any case.
        browse: Whether to open the report's page.
    """
    if browse:
        from indexscope.flows.cli.browser import need_browser, open_page

        need_browser()
    outcome = run_flow(name, None if file is None else str(file), overrides, refresh)
    complain(list(outcome.messages), outcome.code)
    if outcome.folder is not None:
        from indexscope.flows.cli.told import show_told
        from indexscope.flows.engine.narrate import short  # it imports Prefect, whose settings `run_flow` has checked

        show_told(outcome.told)
        typer.echo(short(outcome.folder))
        if browse:
            open_page(outcome.folder)
    raise typer.Exit(outcome.code)


def run_flow(name: str, file: str | None, overrides: list[str], refresh: list[str] | None = None) -> Outcome:
    """Run one of the flows.

    Args:
        name: A key of `indexscope.flows.study.flows.FLOWS`.
        file: The study file; None is the built-in study.
        overrides: ``key.key=value`` settings that go before the file's.
        refresh: Steps to compute even if the store has them.

    Raises:
        IndexscopeError: The study or something that it names cannot be used, or Prefect cannot.
        Exception: Whatever the flow raised that is no outcome: a defect of this program.
    """
    from indexscope.flows.local_server import temporary_server

    with temporary_server() as server:
        from indexscope.flows.engine import forks
        from indexscope.flows.study.load import load_study
        from indexscope.flows.study.preflight import (
            check_folders,
            check_run,
            check_store,
            has_much_to_make,
        )
        from indexscope.flows.study.refresh import chosen

        study = load_study(file, overrides)
        steps = chosen(refresh or [], name)
        check_folders(study, name)
        check_run(study)
        if has_much_to_make(study, name):
            forks.prepare()
        server.settle()
        from indexscope.flows.study.flows import FLOWS
        from indexscope.flows.study.outcome import Outcome
        from indexscope.flows.study.plan import prepare_plan
        from indexscope.flows.study.status import needs_processes

        plan = prepare_plan(study, steps)
        check_store(plan, name)
        if needs_processes(plan, name):
            forks.prepare()
        server.ready()
        as_usual()
        state: Any = FLOWS[name](file=file, overrides=overrides, refresh=refresh, return_state=True)
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, Outcome):
        return outcome
    raise outcome if isinstance(outcome, BaseException) else RuntimeError(f"the flow ended {state.name}")
