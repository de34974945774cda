"""The flow that fits indexers, and what it tells meanwhile."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import indexscope.flows.prefect_setup  # noqa: F401 - before prefect  # isort: skip
import polars as pl
import torch
from prefect import flow
from prefect.artifacts import create_table_artifact
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from indexscope.analysis.fitting.summary import summarised
from indexscope.flows.engine.narrate import say, short
from indexscope.flows.engine.progress import REFUSALS
from indexscope.flows.fitting.plan import FitPlan
from indexscope.flows.fitting.searches import searches
from indexscope.flows.fitting.sweep import STUDY, write_sweep, write_texts
from indexscope.flows.optimise.written import Finds
from indexscope.storage.store.files import make_folders
from indexscope.storage.store.locks import run_lock
from indexscope.tasks.common.fitting import (
    WORK,
    Job,
    measure_indexers,
    told_of,
    train_indexers,
    write_indexers,
)
from indexscope.tasks.common.models import release

#: Key of the artifact with the numbers on held-out text, of which each look makes a version.
ARTIFACT = "fit-held-out"


def job_of(plan: FitPlan) -> Job:
    """What the steps are told of a plan."""
    fit = plan.fit
    settings = fit.science.model_dump()
    shown = {
        "training sequences": f"{len(plan.training)} of {fit.length} tokens",
        "topk": ", ".join(map(str, fit.topk)),
        **{name.replace("_", " "): value for name, value in settings.items()},
        "body while training": fit.training.dtype,
        "base model": plan.fingerprint,
    }
    return Job(
        key=plan.key,
        folder=plan.folder,
        fingerprint=plan.fingerprint,
        family=plan.info.family,
        training=torch.tensor([sample.input_ids for sample in plan.training], dtype=torch.int64),
        held_out=tuple(torch.tensor(sample.input_ids, dtype=torch.int64) for sample in plan.held_out),
        sizes=fit.indexers,
        topk=fit.topk,
        settings=fit.science,
        dtype=fit.training.dtype,
        device=fit.training.device,
        queries=fit.held_out.queries,
        evaluate_every=fit.training.evaluate_every,
        checkpoint_every=fit.training.checkpoint_every,
        keep_every=fit.training.keep_every,
        out=plan.out,
        shown=shown,
    )


_ready: dict[str, FitPlan] = {}


def fit_indexers(plan: FitPlan) -> None:
    """Train, measure and write the indexers of a sweep, search cheaper edits of them, and write the study of all.

    An interrupted run goes on from its last checkpoint, or from the last edit that was run.
    """
    _ready[plan.key] = plan
    make_folders(plan.out)
    lock = plan.out / ".lock"
    try:
        with run_lock(lock, "wait until it ends, or choose another `out`"):
            try:
                if not plan.is_finished():
                    fit_flow(plan.fit.model, plan.fit.out, [size.name for size in plan.fit.indexers], plan.key)
                sweep_flow(plan.fit.model, plan.fit.out, plan.key)
            finally:
                if list(plan.out.iterdir()) == [lock]:  # it failed before it wrote anything
                    lock.unlink()
                    plan.out.rmdir()
    finally:
        del _ready[plan.key]


@flow(name="fit", validate_parameters=False)
def fit_flow(model: str, out: str, indexers: Sequence[str], key: str) -> None:
    """The flow; Prefect keeps its parameters, which is why they do not hold the data.

    Args:
        model: What is fitted to, for whoever looks at the run.
        out: Where results go.
        indexers: The sweep.
        key: Of the plan that `fit_indexers` was given.
    """
    plan = _ready[key]
    job = job_of(plan)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        trained = train_indexers(job, plan.begin, _trained(progress), _show)
        final = measure_indexers(job, trained, _measured(progress))
    write_indexers(job, trained, final)
    plan.begin(finished=True)
    shutil.rmtree(plan.out / WORK, ignore_errors=True)
    _publish(final)
    for line in told_of(final):
        say(line)
    say(f"fitted: {', '.join(short(str(plan.out / size.name)) for size in plan.fit.indexers)}")


@flow(name="fit-sweep", validate_parameters=False)
def sweep_flow(model: str, out: str, key: str) -> None:
    """Search cheaper edits of what was fitted, and write the study of all.

    Args:
        model: What was fitted to, for whoever looks at the run.
        out: Where results go.
        key: Of the plan that `fit_indexers` was given.
    """
    plan, found = _ready[key], dict[str, Finds]()
    write_texts(plan)
    for search in searches(plan):
        found[search.indexer] = search.run()
    release()
    write_sweep(plan, found)
    say(f"compare them: indexscope study {short(str(plan.out / STUDY))}")


def in_order(plan: FitPlan) -> bool:
    """Whether a finished fit has its searches finished and its study written; runs no model, mends what is small."""
    write_texts(plan)
    found = {search.indexer: search.finds() for search in searches(plan)}
    whole = {name: finds for name, finds in found.items() if finds is not None}
    if len(whole) < len(plan.fit.searched):
        return False
    if write_sweep(plan, whole):
        say(f"written anew: {short(str(plan.out / STUDY))}")
    return True


def _trained(progress: Progress) -> Callable[[int, int, float, float | None], None]:
    bar = progress.add_task("train", total=None, told="")
    average: float | None = None

    def update(step: int, steps: int, kl: float, recall: float | None) -> None:
        nonlocal average
        average = kl if average is None else 0.9 * average + 0.1 * kl
        told = f"KL {average:.3f}" + ("" if recall is None else f", recall {100 * recall:.1f} % of the best")
        progress.update(bar, completed=step, total=steps, told=told)

    return update


def _measured(progress: Progress) -> Callable[[int, int], None]:
    bar = progress.add_task("measure", total=None, told="")
    return lambda done, total: progress.update(bar, completed=done, total=total)


def _show(held_out: pl.DataFrame) -> None:
    """The last look at held-out text as lines, and all of them as an artifact."""
    if not len(held_out):
        return
    last = max(held_out["step"].to_list())
    for row in summarised(held_out.filter(step=last), ("indexer", "topk")).iter_rows(named=True):
        best = f"{100 * row['recall_of_oracle']:.1f} % of the best choice's recall"
        say(f"step {last}: {row['indexer']}, {row['topk']} keys: {best} on held-out text, KL {row['kl']:.3f} nats")
    _publish(held_out)


def _publish(held_out: pl.DataFrame) -> None:
    """Numbers as an artifact of the run; a server that is away makes no fit fail."""
    names = ("selection_recall", "oracle_recall", "random_recall", "recall_of_oracle", "selection_skill", "kl")
    rows: list[dict[str, Any]] = summarised(held_out, ("step", "indexer", "topk")).to_dicts() if len(held_out) else []
    table = [
        {"step": row["step"], "indexer": row["indexer"], "keys": row["topk"]}
        | {name.replace("_", " "): None if row[name] != row[name] else round(row[name], 4) for name in names}
        for row in rows
    ]
    try:
        create_table_artifact(table, key=ARTIFACT, description="Recall and divergence on held-out text, all layers")
    except REFUSALS as error:
        logging.getLogger(__name__).debug("Prefect took no artifact: %s", error)
