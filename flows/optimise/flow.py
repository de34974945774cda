"""The flow: search, test what was found on held-out samples, and write it."""

from __future__ import annotations

from indexscope.flows import prefect_setup  # isort: skip - before anything of prefect

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
from indexscope.flows.optimise.split import Split, apart, divided
from indexscope.flows.optimise.written import finished, write, write_study
from indexscope.flows.study.config import Study
from indexscope.flows.study.load import load_study
from indexscope.flows.study.outcome import Outcome, concluded
from indexscope.flows.study.plan import UNKNOWN_VOCABULARY, Plan, take_plan
from indexscope.flows.study.provenance import machine
from indexscope.storage.inputs.checkpoints import find_tokenizer
from indexscope.storage.inputs.datasets import load_samples
from indexscope.storage.inputs.samples import Sample, dataset_fingerprint
from indexscope.tasks.common.models import borrow, share_cores
from indexscope.tasks.common.versions import versions

if TYPE_CHECKING:
    import polars as pl

    from indexscope.analysis.capture import CapturedModel
    from indexscope.analysis.optimise.words import Found

__all__ = ["optimise_flow", "prefect_setup"]

#: Raise it when the loss of an edit on a sample would change.
EVALUATION_VERSION = 2
WORK = ".work"


def alone(study: Study, where: str, model: str = "") -> Study:
    """The model that is searched as the study's only one, since a search looks at no other.

    Args:
        study: The study.
        where: What an error names.
        model: Its name; "" is the baseline.

    Raises:
        IndexscopeError: There is none such, or it cannot be edited.
    """
    named = f"--model {model}" if model else f"{where}: baseline"
    chosen = next((one for one in study.models if one.name == model), None) if model else study.baseline
    if chosen is None:
        raise IndexscopeError(named, f"is no model of {where}", _choose(study) or "give a model's name")
    if chosen.selections:
        raise IndexscopeError(named, "is a dump of selections, which cannot be edited", "give a model")
    if chosen.edit is not None:
        reason = "is an edit itself; a search starts from a model as it is"
        raise IndexscopeError(named, reason, "give the model without its edit")
    return study.model_copy(update={"baseline": chosen, "candidates": (), "gates": (), "plugins": ()})


def _choose(study: Study) -> str:
    names = [model.name for model in study.models if not model.selections and model.edit is None]
    fitted = [model.name for model in study.models if model.indexer and model.name in names]
    return f"choose one with --model: {', '.join(fitted or names)}" if names else ""


def refuse_dense(study: Study, plan: Plan) -> None:
    """Refuse to search a model without an indexer where the study has fitted ones, before it is loaded.

    Raises:
        IndexscopeError: It says which to choose.
    """
    model, fitted = plan.models[0], any(one.indexer and one.edit is None for one in study.candidates)
    if fitted and not plan.study.baseline.indexer and model.info.index_topk is None:
        raise IndexscopeError(model.name, "has no indexer that could be edited", _choose(study))


def run_name() -> str:
    """What Prefect calls a run."""
    file = flow_run.parameters.get("file")
    return f"optimise {Path(file).stem if file else 'demo'}"


@flow(name="indexscope-optimise", flow_run_name=run_name, persist_result=False)
def optimise_flow(file: str | None, overrides: list[str], asked: dict[str, Any], out: str) -> State[Outcome]:
    """Search a cheaper edit of a study's baseline, or of another of its models.

    Args:
        file: The study file; none is the built-in study.
        overrides: ``key.key=value`` settings that go before the file's.
        asked: What is looked for, as `indexscope.flows.optimise.settings.Asked` dumps it.
        out: Folder of the results.
    """

    def work() -> Outcome:
        wanted, title = Asked.model_validate(asked), file or "built-in study"
        study = load_study(file, overrides)
        plan = take_plan(alone(study, title, wanted.model))
        for note in plan.notes:
            say(note)
        text = material(plan, wanted)
        told = searched(plan, wanted, text, Path(out))
        write_study(Path(out), study, wanted.model, text.held_out)
        return Outcome(folder=out, told=told)

    return concluded(work)


@dataclass(frozen=True)
class Material:
    """The text of a search.

    Attributes:
        samples: All, by index.
        split: Which calibrate, and which test.
        calibration: Fingerprint of other text that calibrates; "" where a part of the study's does.
    """

    samples: Mapping[int, Sample]
    split: Split
    calibration: str

    @property
    def held_out(self) -> list[Sample]:
        """What tests, in the order of the study."""
        return [self.samples[index] for index in sorted(self.split.held_out)]


def material(plan: Plan, asked: Asked) -> Material:
    """What a search sees, and what it is tested on.

    Raises:
        IndexscopeError: There are too few samples, or the other text cannot be read or is the study's own.
    """
    known = {sample.index: sample for sample in plan.samples}
    if not asked.text:
        return Material(known, divided(plan.samples, asked.calibration, plan.study.name), "")
    model = plan.models[0]
    tokenizer = None if model.tokenizer is None else find_tokenizer(model.tokenizer)
    vocabulary = model.info.vocab_size or len(tokenizer or ()) or UNKNOWN_VOCABULARY
    settings = plan.study.dataset.model_copy(update={"source": asked.text})
    other = [
        replace(sample, index=len(known) + sample.index) for sample in load_samples(settings, tokenizer, vocabulary)
    ]
    split = apart(plan.samples, other, f"--calibration {asked.text}")
    return Material({**known, **{sample.index: sample for sample in other}}, split, dataset_fingerprint(other))


@dataclass(frozen=True)
class _Subject:
    """What is searched.

    Attributes:
        plan: The study.
        asked: What is looked for.
        material: Its text.
        source: The model.
        memory: Evaluations on disk.
        screen: Shows how far it is.
    """

    plan: Plan
    asked: Asked
    material: Material
    source: CapturedModel
    memory: Kept
    screen: Shown


def known(plan: Plan, asked: Asked, out: Path) -> str | None:
    """What this very search found, if the folder holds it finished.

    Raises:
        IndexscopeError: There are too few samples.
    """
    return finished(out, _fingerprint(plan, asked, _evaluated(plan, asked, material(plan, asked))))


def _fingerprint(plan: Plan, asked: Asked, evaluated: str) -> str:
    return asked.fingerprint(evaluated, plan.study.model_dump_json(exclude={"runner", "store", "report"}))


def searched(plan: Plan, asked: Asked, text: Material, out: Path) -> str:
    """Search, or find that the folder holds this very search finished.

    Args:
        plan: Of a study of the one model that is searched.
        asked: What is looked for.
        text: What it sees, and what it is tested on, as `material` gives it.
        out: Folder of the results.

    Returns:
        What is to be told of it; nothing where it was finished already.

    Raises:
        IndexscopeError: The model cannot be edited.
    """
    evaluated = _evaluated(plan, asked, text)
    fingerprint = _fingerprint(plan, asked, evaluated)
    told = finished(out, fingerprint)
    if told is not None:
        say(f"finished already: {told}")
        return ""
    share_cores(1)
    source = _model(plan)
    with kept(out / WORK, evaluated) as memory, shown() as screen:
        if memory.losses:
            say(f"going on: {len(memory.losses)} runs of samples are kept")
        subject = _Subject(plan, asked, text, source, memory, screen)
        with plan.models[0].checkpoint.origin.told():
            found = _found(subject)
    write(out, found, fingerprint, _provenance(subject, evaluated))
    from indexscope.analysis.optimise.words import describe, sentence

    winner = found.winner
    return "\n".join([sentence(found), *([] if winner is None else [describe(found.space, winner.edit)])])


def _model(plan: Plan) -> CapturedModel:
    from indexscope.analysis.capture import CapturedModel

    source = borrow(plan.models[0].checkpoint, plan.study.extract)
    if not isinstance(source, CapturedModel):
        reason = "is no model of transformers, and edits change those alone"
        raise IndexscopeError(plan.models[0].name, reason, "give a checkpoint of transformers")
    return source


def _evaluated(plan: Plan, asked: Asked, text: Material) -> str:
    """What the loss of an edit on a sample depends on."""
    given = plan.given
    told = {
        "version": EVALUATION_VERSION,
        "model": plan.models[0].checkpoint.fingerprint,
        "data": given.dataset,
        "loss": asked.loss,
        "device": given.device,
        "run": given.extract.model_dump(mode="json", include={"dtype", "chunk"}),
        **({"calibration": text.calibration} if text.calibration else {}),
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

    plan, asked, split = subject.plan, subject.asked, subject.material.split
    samples = subject.material.samples
    lengths = [len(sample.input_ids) for sample in plan.samples]
    space = space_of(subject.source)
    cost = cost_of(subject.source, lengths, whole=asked.cost != "indexer")
    space = replace(space, precisions=cost.cheaper_precisions)
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

    Search(space, Proposer(space, cost), arm("search"), asked.seed).run(starts(space, _frames(subject)))
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
        few = subject.material.split.calibration[:4]
        evaluations.of(trial, few[:1])  # what is only slow the first time
        start, known = time.perf_counter(), len(subject.memory.losses)
        evaluations.of(trial, few)
        runs = len(subject.memory.losses) - known
        each = (time.perf_counter() - start) / runs if runs else subject.memory.seconds / max(known, 1)
        holds = subject.asked.seconds / (each * len(subject.material.split.calibration))
        subject.memory.budget(name, round(max(holds, 2.0), 1))
    return subject.memory.budgets[name]


def _frames(subject: _Subject) -> dict[str, pl.DataFrame]:
    """Results of the study that starts are made from, as far as the store has them; none where all of it tests."""
    from indexscope.analysis.optimise.starts import READ

    plan = subject.plan
    if subject.asked.text:
        return {}
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
    plan, split = subject.plan, subject.material.split
    names = {index: sample.name for index, sample in subject.material.samples.items()}
    return {
        "asked": subject.asked.model_dump(mode="json"),
        "model": {"name": plan.models[0].name, "fingerprint": plan.models[0].checkpoint.fingerprint},
        "dataset": {"source": plan.study.dataset.source, "fingerprint": plan.given.dataset},
        "calibration": [names[index] for index in split.calibration],
        "held out": [names[index] for index in split.held_out],
        "evaluations": f"{WORK}/evaluations-{evaluated[:16]}.jsonl",
        "runs of samples": len(subject.memory.losses),
        "seconds": round(subject.memory.seconds, 1),
        "versions": versions(),
        "machine": machine(plan.given.device),
    }
