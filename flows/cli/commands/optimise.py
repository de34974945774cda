"""The command optimise: a cheaper edit of a model, found by running edits and tested on held-out samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.studies import File, Overrides


def optimise(
    file: File = None,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="The study's model that is edited; without, the baseline.")
    ] = "",
    max_loss: Annotated[float, typer.Option(help="Loss that an edit may have, upper end of its interval.")] = 0.005,
    loss: Annotated[
        str, typer.Option(help="What is lost: nll (nats per token), output_kl (nats) or skill of the selection.")
    ] = "nll",
    cost: Annotated[
        str,
        typer.Option(help="What is saved: attention (FLOPs, indexers included), indexer, or latency (measured)."),
    ] = "attention",
    budget: Annotated[
        str, typer.Option(metavar="N|TIME", help="Runs of all calibration samples, or a time: 40, 5min, 1h.")
    ] = "40",
    calibration: Annotated[
        str,
        typer.Option(
            metavar="SHARE|FILE",
            help="Share of the samples that the search sees, the others test it; or other text, which it sees instead.",
        ),
    ] = "0.5",
    baselines: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Searches to beat on the same budget: greedy, even, random, none."),
    ] = "greedy,even",
    out: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where it goes; by default beside the study's report.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws other proposals.")] = 0,
    overrides: Overrides = None,
) -> None:
    """Search heads, k by layer, sharing and precision for the cheapest edit of a model within a bound on the loss.

    Edits are run on calibration samples; the finds are tested on held-out ones. It resumes where it was stopped. The
    last line on stdout is the folder, which holds optimised.md and optimised.yaml: the study and the finds in one, on
    the held-out samples.
    """
    from indexscope.flows.optimise.settings import asked

    wanted = asked(max_loss, loss, cost, budget, calibration, baselines, seed, model)
    outcome = _run(None if file is None else str(file), list(overrides or []), wanted, out)
    from indexscope.flows.errors import complain

    complain(list(outcome.messages), outcome.code)
    if outcome.folder is not None:
        from indexscope.flows.engine.narrate import short

        if outcome.told:
            typer.echo(outcome.told)
        typer.echo(short(outcome.folder))
    raise typer.Exit(outcome.code)


def _run(file: str | None, overrides: list[str], wanted: Any, out: str | None) -> Any:
    from indexscope.flows.local_server import temporary_server

    with temporary_server() as server:
        from indexscope import IndexscopeError
        from indexscope.flows.study.config import report_folder
        from indexscope.flows.study.load import load_study
        from indexscope.flows.study.preflight import check_run
        from indexscope.storage.store.writable import refuse_unwritable

        title = file or "built-in study"
        study = load_study(file, overrides)
        folder = f"{report_folder(study)}-optimised" if out is None else out
        if "://" in folder:
            raise IndexscopeError(
                folder, "is an address; a search keeps its runs in a local folder", "give --out FOLDER"
            )
        refuse_unwritable(folder, "--out")
        check_run(study)
        server.settle()
        from indexscope.flows.optimise.flow import alone, material, optimise_flow, refuse_dense
        from indexscope.flows.study.outcome import Outcome
        from indexscope.flows.study.plan import prepare_plan

        plan = prepare_plan(alone(study, title, wanted.model))
        refuse_dense(study, plan)
        material(plan, wanted)
        server.ready()
        told = wanted.model_dump(mode="json")
        where = str(Path(folder).resolve())
        state: Any = optimise_flow(file=file, overrides=overrides, asked=told, out=where, return_state=True)
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, Outcome):
        return outcome
    raise outcome if isinstance(outcome, BaseException) else RuntimeError(f"the flow ended {state.name}")


COMMAND = Command(
    "optimise",
    optimise,
    place=62,
    examples=(
        "indexscope optimise study.yaml --max-loss 0.005",
        'indexscope optimise fitted/study.yaml --model "h4-d64 k64" --calibration fitted/calibration.jsonl',
    ),
)
