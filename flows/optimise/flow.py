"""The flow: search, test what was found on held-out samples, and write it."""

from __future__ import annotations

from indexscope.flows import prefect_setup  # isort: skip - before anything of prefect

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from indexscope import IndexscopeError
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.optimise.evaluations import Arm, Evaluations, Goal, Loss, Tried
from indexscope.flows.engine.narrate import say
from indexscope.flows.optimise.kept import Kept, kept
from indexscope.flows.optimise.settings import Asked
from indexscope.flows.optimise.shown import Shown, shown
from indexscope.flows.optimise.split import Split, divided
from indexscope.flows.optimise.written import finished, write
from indexscope.flows.study.config import Study
from indexscope.flows.study.load import load_study
from indexscope.flows.study.outcome import Outcome, concluded
from indexscope.flows.study.plan import Plan, take_plan
from indexscope.flows.study.provenance import machine
from indexscope.tasks.common.models import borrow, share_cores
from indexscope.tasks.common.versions import versions

if TYPE_CHECKING:
    import polars as pl

    from indexscope.analysis.capture import CapturedModel
    from indexscope.analysis.optimise.words import Found

__all__ = ["optimise_flow", "prefect_setup"]

#: Raise it when the loss of an edit on a sample would change.
EVALUATION_VERSION = 1
WORK = ".work"


def only_baseline(study: Study, where: str) -> Study:
    """The study without candidates, which a search does not look at.

    Raises:
        IndexscopeError: The baseline is a dump of selections.
    """
    if study.baseline.selections:
        raise IndexscopeError(f"{where}: baseline", "is a dump of selections, which cannot be edited", "give a model")
    if study.baseline.edit is not None:
        reason = "is an edit itself; a search starts from a model as it is"
        raise IndexscopeError(f"{where}: baseline", reason, "give the model without its edit")
    return study.model_copy(update={"candidates": (), "gates": (), "plugins": ()})


def run_name() -> str:
    """What Prefect calls a run."""
    file = flow_run.parameters.get("file")
    return f"optimise {Path(file).stem if file else 'demo'}"


@flow(name="indexscope-optimise", flow_run_name=run_name, persist_result=False)
def optimise_flow(file: str | None, overrides: list[str], asked: dict[str, Any], out: str) -> State[Outcome]:
    """Search a cheaper edit of a study's baseline.

    Args:
        file: The study file; none is the built-in study.
        overrides: ``key.key=value`` settings that go before the file's.
        asked: What is looked for, as `indexscope.flows.optimise.settings.Asked` dumps it.
        out: Folder of the results.
    """

    def work() -> Outcome:
        study = only_baseline(load_study(file, overrides), file or "built-in study")
        plan = take_plan(study)
        for note in plan.notes:
            say(note)
        return searched(plan, Asked.model_validate(asked), Path(out))

    return concluded(work)


@dataclass(frozen=True)
class _Subject:
    """What is searched.

    Attributes:
        plan: The study.
        asked: What is looked for.
        split: Its samples.
        source: The model.
        memory: Evaluations on disk.
        screen: Shows how far it is.
    """

    plan: Plan
    asked: Asked
    split: Split
    source: CapturedModel
    memory: Kept
    screen: Shown


def searched(plan: Plan, asked: Asked, out: Path) -> Outcome:
    """Search, or find that the folder holds this very search finished.

    Raises:
        IndexscopeError: The model cannot be edited, or there are too few samples.
    """
    split = divided(plan.samples, asked.calibration, plan.study.name)
    evaluated = _evaluated(plan, asked)
    fingerprint = asked.fingerprint(evaluated, plan.study.model_dump_json(exclude={"runner", "store", "report"}))
    told = finished(out, fingerprint)
    if told is not None:
        say(f"finished already: {told}")
        return Outcome(folder=str(out))
    share_cores(1)
    source = _model(plan)
    with kept(out / WORK, evaluated) as memory, shown() as screen:
        if memory.losses:
            say(f"going on: {len(memory.losses)} runs of samples are kept")
        subject = _Subject(plan, asked, split, source, memory, screen)
        with plan.models[0].checkpoint.origin.told():
            found = _found(subject)
    write(out, found, plan.study, fingerprint, _provenance(subject, evaluated))
    from indexscope.analysis.optimise.words import describe, sentence

    winner = found.winner
    words = [sentence(found), *([] if winner is None else [describe(found.space, winner.edit)])]
    return Outcome(folder=str(out), told="\n".join(words))


def _model(plan: Plan) -> CapturedModel:
    from indexscope.analysis.capture import CapturedModel

    source = borrow(plan.models[0].checkpoint, plan.study.extract)
    if not isinstance(source, CapturedModel):
        reason = "is no model of transformers, and edits change those alone"
        raise IndexscopeError(plan.models[0].name, reason, "give a checkpoint of transformers")
    return source


def _evaluated(plan: Plan, asked: Asked) -> str:
    """What the loss of an edit on a sample depends on."""
    given = plan.given
    told = {
        "version": EVALUATION_VERSION,
        "model": plan.models[0].checkpoint.fingerprint,
        "data": given.dataset,
        "loss": asked.loss,
        "device": given.device,
        "run": given.extract.model_dump(mode="json", include={"dtype", "chunk"}),
    }
    return sha256(dumps(told, sort_keys=True).encode()).hexdigest()


def _found(subject: _Subject) -> Found:
    from indexscope.analysis.optimise.baselines import EVEN, GREEDY, RANDOM, chance, even, greedy
    from indexscope.analysis.optimise.model import Latency, ModelEvaluator, cost_of, space_of
    from indexscope.analysis.optimise.search import Search
    from indexscope.analysis.optimise.starts import starts
    from indexscope.analysis.optimise.surrogate import Proposer
    from indexscope.analysis.optimise.validation import candidates, interval_of, validated
    from indexscope.analysis.optimise.words import Found

    plan, asked, split = subject.plan, subject.asked, subject.split
    samples = {sample.index: sample for sample in plan.samples}
    lengths = [len(sample.input_ids) for sample in plan.samples]
    space = space_of(subject.source)
    cost = cost_of(subject.source, lengths, whole=asked.cost != "indexer")
    space = space_of(subject.source, cost.time)
    measure: Callable[[Edit], float] = cost.relative
    if asked.cost == "latency":
        longest = max(samples.values(), key=lambda sample: len(sample.input_ids))
        measure = _Timed(Latency(subject.source, longest.input_ids, len(longest.input_ids)), subject.memory)
    evaluator = ModelEvaluator(subject.source, samples, asked.loss, plan.study.extract)
    clock = _Clock(subject)
    evaluations = Evaluations(evaluator, subject.memory.losses, clock.heard)
    goal = Goal(asked.max_loss, measure, 0.95)
    budget = _budget(subject, evaluations, space.edit(next(iter(space.singles()), space.origin)))
    arms: dict[str, Arm] = {}

    def arm(name: str) -> Arm:
        arms[name] = Arm(evaluations, split.calibration, goal, budget, subject.screen.told(name, asked.loss))
        return arms[name]

    Search(space, Proposer(space, cost), arm("search"), asked.seed).run(starts(space, _frames(plan)))
    others: Mapping[str, tuple[str, Callable[[Arm], Tried | None]]] = {
        "greedy": (GREEDY, lambda arm: greedy(space, arm)),
        "even": (EVEN, lambda arm: even(space, arm)),
        "random": (RANDOM, lambda arm: chance(space, arm, asked.seed)),
    }
    for name in asked.baselines:
        title, run = others[name]
        run(arm(title))
    bootstrap = plan.given.comparison
    chain = candidates([one for one in arms["search"].tried.values() if one.full], goal)
    subject.screen.testing(len(chain))
    tests = validated(
        [(one.edit, evaluations.of(one.edit, split.held_out)) for one in chain], asked.max_loss, bootstrap
    )
    best = [one.best.edit for one in arms.values() if one.best is not None]
    beside = {edit: interval_of(evaluations.of(edit, split.held_out), bootstrap) for edit in best}
    edits = {Edit.model_validate({}), *(edit for one in arms.values() for edit in one.tried)}
    return Found(
        study=plan.study.name,
        model=plan.models[0].name,
        space=space,
        loss=asked.loss,
        cost=asked.cost,
        max_loss=asked.max_loss,
        arms=arms,
        tests=tests,
        beside=beside,
        calibration=len(split.calibration),
        held_out=len(split.held_out),
        to_dense={edit: cost.relative_to_dense(edit) for edit in edits},
        confidence=bootstrap.confidence,
    )


class _Clock:
    """Tells how long each evaluation took."""

    def __init__(self, subject: _Subject) -> None:
        self._memory, self._since = subject.memory, time.perf_counter()

    def heard(self, edit: Edit, sample: int, loss: Loss) -> None:
        now = time.perf_counter()
        self._memory.heard(edit, sample, loss, now - self._since)
        self._since = now


class _Timed:
    """Latencies, each kept as soon as it is measured."""

    def __init__(self, latency: Callable[[Edit], float], memory: Kept) -> None:
        self._latency, self._memory = latency, memory

    def __call__(self, edit: Edit) -> float:
        if edit not in self._memory.latencies:
            start = time.perf_counter()
            self._memory.timed(edit, self._latency(edit), time.perf_counter() - start)
        return self._memory.latencies[edit]


def _budget(subject: _Subject, evaluations: Evaluations, trial: Edit) -> float:
    """The budget in evaluations; of a time as many as it holds by the time of the first, which is kept for a resume."""
    if subject.asked.evaluations is not None:
        return subject.asked.evaluations
    assert subject.asked.seconds is not None
    name = f"{subject.asked.seconds:g} s"
    if name not in subject.memory.budgets:
        few = subject.split.calibration[:4]
        evaluations.of(trial, few[:1])  # what is only slow the first time
        start, known = time.perf_counter(), len(subject.memory.losses)
        evaluations.of(trial, few)
        runs = len(subject.memory.losses) - known
        each = (time.perf_counter() - start) / runs if runs else subject.memory.seconds / max(known, 1)
        holds = subject.asked.seconds / (each * len(subject.split.calibration))
        subject.memory.budget(name, round(max(holds, 2.0), 1))
    return subject.memory.budgets[name]


def _frames(plan: Plan) -> dict[str, pl.DataFrame]:
    """Results of the study that starts are made from, as far as the store has them."""
    from indexscope.analysis.optimise.starts import READ

    found: dict[str, pl.DataFrame] = {}
    for name in READ:
        step, _, table = name.partition(".")
        node = plan.graph.of(step, plan.models[0].name)
        if node is None:
            continue
        if all(status == "committed" for status in plan.store.unit_statuses(node.key, node.units).values()):
            found[name] = plan.store.read(node.key, table)
    return found


def _provenance(subject: _Subject, evaluated: str) -> dict[str, Any]:
    plan, names = subject.plan, {sample.index: sample.name for sample in subject.plan.samples}
    return {
        "asked": subject.asked.model_dump(mode="json"),
        "model": {"name": plan.models[0].name, "fingerprint": plan.models[0].checkpoint.fingerprint},
        "dataset": {"source": plan.study.dataset.source, "fingerprint": plan.given.dataset},
        "calibration": [names[index] for index in subject.split.calibration],
        "held out": [names[index] for index in subject.split.held_out],
        "evaluations": f"{WORK}/evaluations-{evaluated[:16]}.jsonl",
        "runs of samples": len(subject.memory.losses),
        "seconds": round(subject.memory.seconds, 1),
        "versions": versions(),
        "machine": machine(plan.given.device),
    }
