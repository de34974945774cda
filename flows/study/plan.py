"""The plan of a study: its inputs read and fingerprinted, its shards cut, and the address of every result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexscope import IndexscopeError
from indexscope.flows.engine.graph import Graph, Node, expand
from indexscope.flows.engine.make import Engine
from indexscope.flows.engine.settings import Spread, cluster, spread
from indexscope.flows.study.config import Study
from indexscope.flows.study.dumps import dumped
from indexscope.flows.study.duration import time_note
from indexscope.flows.study.inputs import Inputs, ModelPlan
from indexscope.flows.study.lengths import (
    Cut,
    answer_warnings,
    check_asked,
    cut,
    effect_warnings,
    lengths_notes,
    positions_of,
    timed_lengths,
)
from indexscope.flows.study.models import planned
from indexscope.flows.study.provenance import cover, settled
from indexscope.flows.study.refused import Refused
from indexscope.flows.study.series import courses, waiting_notes
from indexscope.plugins import read
from indexscope.storage.inputs.checkpoints import find_tokenizer, resolve_device
from indexscope.storage.inputs.dataset_settings import NEEDLE
from indexscope.storage.inputs.datasets import dataset_fingerprint, load_samples, shard
from indexscope.storage.inputs.evidence import evidence_fingerprint
from indexscope.storage.inputs.samples import Sample
from indexscope.storage.inputs.vocabulary import vocabulary_fingerprint
from indexscope.storage.store.store import JSON
from indexscope.tasks.common.declared import COMMANDS, Given, Step
from indexscope.tasks.common.models import cores
from indexscope.tasks.common.placing import Placement, checkpoint_of, devices_plan, placement, streaming_plan
from indexscope.tasks.common.plugins import with_plugins
from indexscope.tasks.common.registry import STEPS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: More ids than any tokenizer has: for the rare model whose configuration does not say.
UNKNOWN_VOCABULARY = 1 << 20


@dataclass(frozen=True)
class Plan(Inputs):
    """Everything a run needs to know; making it runs no model.

    Attributes:
        refresh: Steps to compute even if the store has them.
        notes: What was decided for the user, and what is known already to make the study's numbers weak.
        streams: Names of the models that are read layer by layer.
        spread_out: Names of those that are put on several devices.
    """

    refresh: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    spread_out: tuple[str, ...] = ()

    @cached_property
    def graph(self) -> Graph:
        """Every result of the study, with its address."""

        def late(step: Step, nodes: Sequence[Node]) -> dict[str, JSON]:
            return {"provenance": settled(self, nodes)} if step.name == "report" else {}

        checkpoints = [model.checkpoint for model in self.models]
        dumps = [plan.dump for plan in self.dumps if plan.role == "candidate"]
        against = next((plan.dump for plan in self.dumps if plan.role == "baseline"), None)
        return expand(
            list(STEPS.values()), checkpoints, self.given, self.study.name, dict(self.shards), late, dumps, against
        )

    def made_by(self, command: str) -> list[Node]:
        """The results that a command makes; "study" makes all."""
        return self.graph.some(COMMANDS if command == "study" else (command,))

    def spread(self) -> Spread:
        """The runner that suits this machine; reads its free memory.

        Of a model that is read layer by layer, workers would each read all of it: by itself it gets one, and so does
        one that is put on several devices.
        """
        from torch import device

        from indexscope.analysis.free_memory import available_bytes

        runner = self.study.runner
        if (self.streams or self.spread_out) and runner.workers == "auto":
            runner = runner.model_copy(update={"workers": 1})
        found = spread(
            runner,
            self.given.device,
            sum(len(sample.input_ids) for sample in self.samples),
            [(model.info.parameters, model.info.bytes) for model in self.models],
            len(self.shards),
            cores(),
            available_bytes(device("cpu")),
        )
        if found.kind != "ray":
            return found
        where = cluster(self.study.runner, self.study.store, self.study.fingerprint)
        return found.model_copy(update={"cluster": where})

    @property
    def engine(self) -> Engine:
        """What makes the results."""
        return Engine(
            self.graph,
            self.store,
            self.spread,
            dict(self.shards),
            self.refresh,
            self.tokenizer,
            self.plugins,
            lambda node: cover(self, self.graph) if node.step.name == "report" else None,
        )


def make_plan(study: Study, refresh: frozenset[str] = frozenset()) -> Plan:
    """Read and check everything that a study names, short of loading a model.

    Args:
        study: What is to be done.
        refresh: Names of the steps that are to be computed even if the store has them, as of `refresh.chosen`.

    Raises:
        IndexscopeError: A checkpoint or the dataset cannot be used, or the models do not fit the dataset or each other.
    """
    files = tuple(read(file) for file in study.plugins)
    with with_plugins(files) as found:
        plugins = found
    device = _device(study)
    refused = Refused(study)
    chosen: list[tuple[ModelPlan, Placement | None]] = []
    for model in planned(study, refused):
        with refused.of(model.name):
            chosen.append((model, _placement(study, model)))
    models = tuple(_placed(study, model, where) for model, where in chosen)
    folder = next((model.tokenizer for model in models), None)
    tokenizer = _tokenizer(folder)
    data = _samples(study, models, tokenizer, refused)
    study, samples = study.model_copy(update={"dataset": data.settings}), data.samples
    lengths = study.lengths or ()
    longest = max(samples, key=lambda sample: len(sample.input_ids))
    for model in refused.left(models):
        with refused.of(model.name):
            check_asked(lengths, samples, {model.name: model.info})
            _check_length(study, model, longest)
    models = refused.left(models)
    chosen = [(model, where) for model, where in chosen if model.name not in refused.reasons]
    described = {model.name: model.info for model in models}
    study = study.model_copy(update={"extract": timed_lengths(lengths, study.extract)})
    dumps, unmatched = dumped(study, samples, next((model.info for model in models), None))
    words = None if tokenizer is None else vocabulary_fingerprint(tokenizer)
    given = Given(
        study.extract if study.runner.kind != "ray" else study.extract.model_copy(update={"device": device}),
        study.closeup,
        study.analyses,
        study.comparison,
        study.shard_size,
        device,
        dataset_fingerprint(samples),
        words,
        plugins,
        evidence=evidence_fingerprint(samples),
        series=courses(study, [model.name for model in models]),
        lengths=lengths,
    )
    shards = tuple(shard(samples, study.shard_size))
    weak = effect_warnings(described, samples)
    asked = lengths_notes(lengths, samples, described, study.extract.query_every)
    streams, spread_out = _streams(study, chosen, shards), _spread_out(chosen)
    placed = (*spread_out.values(), *streams.values())
    unanswered = answer_warnings(samples, study.dataset.length)
    gone = tuple(f"warning: {name} cannot be used: {reason}" for name, reason in refused.reasons.items())
    notes = (*data.notes, *asked, *weak, *unanswered, *unmatched, *placed, *waiting_notes(study), *gone)
    tokens = None if words is None else str(folder)
    plan = Plan(
        *(study, given, shards, models, tokens, files),
        missing={model.name: refused.reasons[model.name] for model in study.models if model.name in refused.reasons},
        dumps=dumps,
        refresh=refresh,
        streams=tuple(streams),
        spread_out=tuple(spread_out),
    )
    return replace(plan, notes=(*notes, *time_note(plan, plan.graph, streams)))


def _placement(study: Study, model: ModelPlan) -> Placement | None:
    """Where a model's weights are to be; None where whoever loads it decides: a cluster's workers have other memory."""
    if study.runner.kind == "ray" and study.extract.placement in ("auto", "devices"):
        return None
    return placement(model.checkpoint.origin, study.extract)


def _placed(study: Study, model: ModelPlan, chosen: Placement | None) -> ModelPlan:
    """A model whose jobs are told what was decided: the memory that is free while they run has others in it."""
    if chosen is None or study.extract.placement != "auto" or checkpoint_of(model.checkpoint.origin) is None:
        return model
    return replace(model, checkpoint=replace(model.checkpoint, placement=chosen.kind))


def _streams(
    study: Study,
    found: Sequence[tuple[ModelPlan, Placement | None]],
    shards: Sequence[tuple[str, Sequence[Sample]]],
) -> dict[str, str]:
    """What is said of each model that is read layer by layer, by its name."""
    told = {}
    lengths = [[len(sample.input_ids) for sample in samples] for _, samples in shards]
    for model, chosen in found:
        checkpoint = checkpoint_of(model.checkpoint.origin)
        if chosen is not None and chosen.kind == "stream" and checkpoint is not None:
            selects = bool(model.info.index_topk or model.info.indexer_heads)
            plan = streaming_plan(Path(checkpoint.folder), study.extract, lengths, selects)
            told[model.name] = f"{model.name} is {chosen.why or 'read layer by layer'}; {plan}"
    return told


def _spread_out(found: Sequence[tuple[ModelPlan, Placement | None]]) -> dict[str, str]:
    """What is said of each model that is put on several devices, by its name."""
    return {
        model.name: f"{model.name} is {chosen.why}; {devices_plan(chosen.mapped)}"
        for model, chosen in found
        if chosen is not None and chosen.mapped is not None
    }


def without(plan: Plan, missing: Mapping[str, str]) -> Plan:
    """The plan of what is left when candidates fail: its results have the addresses that a study without them has.

    Args:
        plan: The plan so far.
        missing: Names of candidates, and why each failed, in one line.
    """
    gone = {**plan.missing, **missing}
    left = tuple(model for model in plan.models if model.name not in gone)
    dumps = tuple(dump for dump in plan.dumps if dump.name not in gone)
    ordered = {model.name: gone[model.name] for model in plan.study.models if model.name in gone}
    given = replace(plan.given, series=courses(plan.study, [model.name for model in left]))
    return replace(plan, given=given, models=left, dumps=dumps, missing=ordered)


def _samples(
    study: Study, models: Sequence[ModelPlan], tokenizer: PreTrainedTokenizerBase | None, refused: Refused
) -> Cut:
    """The dataset in the baseline's tokens, once it is sure that they mean the same to every candidate."""
    sizes = [model.info.vocab_size for model in models if model.info.vocab_size is not None]
    vocabulary = min(sizes, default=len(tokenizer) if tokenizer else UNKNOWN_VOCABULARY)
    infos = {model.name: model.info for model in models}
    data = cut(study.dataset, infos, lambda settings: load_samples(settings, tokenizer, vocabulary))
    for model in models[1:]:
        if tokenizer is None or model.tokenizer is None or _same_tokenizer(models[0].tokenizer, model.tokenizer):
            continue
        with refused.of(model.name):
            _check_tokens(study, model, data, _tokenizer(model.tokenizer), vocabulary)
    return data


def _device(study: Study) -> str:
    """Type of the device that models run on: of a cluster that of its workers, whatever this machine has."""
    wanted, runner = study.extract.device, study.runner
    if runner.kind != "ray":
        return resolve_device(wanted).partition(":")[0]
    if wanted not in ("auto", runner.device):
        has = f"workers of {runner.gpus_per_worker} GPUs"
        remedy = "leave it at auto, and set runner.gpus_per_worker to 1 for GPUs or to 0 for CPUs"
        raise IndexscopeError("extract.device", f"is {wanted}, but the cluster gives {has}", remedy)
    return runner.device


def _tokenizer(folder: Path | None) -> PreTrainedTokenizerBase | None:
    return None if folder is None else find_tokenizer(folder)


def _same_tokenizer(first: Path | None, second: Path | None) -> bool:
    files = [folder / "tokenizer.json" for folder in (first, second) if folder is not None]
    return len({file.read_bytes() if file.is_file() else file for file in files}) == 1


def _check_tokens(study: Study, model: ModelPlan, data: Cut, tokenizer: Any, vocabulary: int) -> None:
    if tokenizer is None:
        return
    try:
        own = load_samples(data.settings, tokenizer, vocabulary)
    except IndexscopeError:
        own = []  # ids beyond the baseline's vocabulary
    if dataset_fingerprint(own) != dataset_fingerprint(data.samples):
        reason = f"cuts the dataset into other tokens than {study.baseline.name}, so nothing could be paired"
        raise IndexscopeError(model.name, reason, "compare models that share a tokenizer")


def _check_length(study: Study, model: ModelPlan, longest: Sample) -> None:
    length, positions = len(longest.input_ids), positions_of(model.info)
    if positions is not None and length > positions:
        reason = f"was made for {positions} tokens, and sample {longest.name} has {length}"
        needles = study.dataset.source == NEEDLE
        where = "give dataset.needle.lengths of" if needles else "set dataset.max_length to"
        raise IndexscopeError(model.name, reason, f"{where} {positions} or less")


_ready: dict[tuple[Study, frozenset[str]], Plan] = {}


def prepare_plan(study: Study, refresh: frozenset[str] = frozenset()) -> Plan:
    """Make a plan ahead of the flow that will take it, so that bad input is told before Prefect starts."""
    _ready[study, refresh] = make_plan(study, refresh)
    return _ready[study, refresh]


def take_plan(study: Study, refresh: frozenset[str] = frozenset()) -> Plan:
    """The plan that was prepared for a study, once; else a new one."""
    return _ready.pop((study, refresh), None) or make_plan(study, refresh)
