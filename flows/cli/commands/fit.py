"""The command fit: a lightning indexer for any checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from indexscope.flows.cli.declared import Command

if TYPE_CHECKING:
    from indexscope.flows.fitting.plan import FitPlan


def fit(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="What to fit: docs/fitting.md.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a value for this run, e.g. stages.dense=200."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be fitted; run no model.")] = False,
) -> None:
    """Fit lightning indexers to a checkpoint of any architecture, for studies to lay over it.

    The body stays as it is. It ends in a study of all that was fitted and, if the file asks for a search, of cheaper
    edits of it. An interrupted fit goes on where it stopped; one that is finished is not made again.
    """
    from indexscope.flows.fitting.load import load_fit
    from indexscope.storage.store.writable import refuse_unwritable

    read = load_fit(file, overrides or [])
    refuse_unwritable(read.out, "out")
    from indexscope.flows.fitting.plan import make_plan

    if dry_run:
        plan = make_plan(read)
        _show(plan, plan.is_finished())
        _warn(plan)
        return
    from indexscope.flows.local_server import temporary_server

    with temporary_server() as server:
        from indexscope.flows.fitting.searches import searches
        from indexscope.flows.study.preflight import check_run

        plan = make_plan(read)
        if plan.is_finished() and _in_order(plan):
            server.stop()
            print(f"nothing to do: {read.out} holds this fit")
            return
        check_run(*(search.study for search in searches(plan)))
        _warn(plan)
        server.ready()
        from indexscope.flows.fitting.flow import fit_indexers

        fit_indexers(plan)


def _warn(plan: FitPlan) -> None:
    for line in plan.warnings:
        print(line, file=sys.stderr)


def _in_order(plan: FitPlan) -> bool:
    from indexscope.flows.fitting.flow import in_order

    return in_order(plan)


def _show(plan: FitPlan, finished: bool) -> None:
    fit = plan.fit
    names = ", ".join(indexer.name for indexer in fit.indexers)
    print(f"{names} for {fit.model} ({plan.info.family}, {plan.info.layers} layers)")
    print(f"{len(plan.training)} sequences of {fit.length} tokens, {len(plan.held_out)} held out")
    stages = f"{fit.stages.dense} dense, {fit.stages.sparse} sparse for each indexer"
    print(f"{fit.steps} steps of {fit.training.batch} ({stages}); {', '.join(map(str, fit.topk))} keys")
    if fit.optimise is not None:
        trained = {sample.input_ids for sample in plan.training}
        both = sum(sample.input_ids in trained for sample in plan.calibration)
        text = f"{len(plan.calibration)} other sequences" if not both else f"{both} of the sequences, for want of more"
        print(f"then cheaper edits of {', '.join(fit.searched)} are searched, calibrated on {text}")
    print(f"nothing to do: {fit.out} holds this fit" if finished else f"results would go to {fit.out}")


COMMAND = Command(
    "fit",
    fit,
    place=76,
    examples=("indexscope fit fit.yaml --dry-run", "indexscope fit fit.yaml --set stages.dense=200"),
)
