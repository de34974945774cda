"""The plan of a study: its inputs read and fingerprinted, its shards cut, and the address of every result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.config import ModelRef, Study
from flows.lengths import Cut, cut, effect_warnings
from indexscope import IndexscopeError
from indexscope.metrics import Declared, MetricsFile, read
from indexscope.settings import Frozen
from storage.checkpoints import CheckpointInfo, describe, fingerprint, load_tokenizer, resolve, resolve_device
from storage.datasets import dataset_fingerprint, load_samples, shard
from storage.samples import Sample
from storage.store import StepKey, Store
from storage.vocabulary import vocabulary_fingerprint
from tasks.catalogue import ANALYSES, CUSTOM, CUSTOM_READS, POOLED, READS
from tasks.keys import analysis_key, comparison_key, features_key, measures_key, probe_key, user_features_key
from tasks.models import Checkpoint
from tasks.own_metrics import own_metrics

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: More ids than any tokenizer has: for the rare model whose configuration does not say.
UNKNOWN_VOCABULARY = 1 << 20


@dataclass(frozen=True)
class ModelPlan:
    """One model of the study and the addresses of its results."""

    role: Literal["baseline", "candidate"]
    checkpoint: Checkpoint
    info: CheckpointInfo
    features: StepKey
    measures: StepKey
    probe: StepKey
    analyses: Mapping[str, StepKey]
    user_features: StepKey | None = None

    @property
    def name(self) -> str:
        """What the study calls it."""
        return self.checkpoint.name

    @property
    def ran(self) -> dict[str, StepKey]:
        """Every step that runs the model."""
        own = {} if self.user_features is None else {"user_features": self.user_features}
        return {"features": self.features, "measures": self.measures, "probe": self.probe, **own}

    @property
    def steps(self) -> dict[str, StepKey]:
        """Every step that an analysis may read."""
        return {**self.ran, **self.analyses}

    @property
    def compared(self) -> dict[str, StepKey]:
        """Every step that the comparison draws on."""
        return {"features": self.features, "probe": self.probe, **self.analyses}

    @property
    def results(self) -> dict[str, StepKey]:
        """Every step that the comparison and the report draw on."""
        return {"measures": self.measures, **self.analyses}


@dataclass(frozen=True)
class Plan:
    """Everything a run needs to know; making it runs no model.

    Attributes:
        study: What was asked for, whatever failed since, with the length of the samples in numbers.
        device: Kind of device.
        dataset: Fingerprint of the samples.
        shards: Name and samples of each shard.
        models: The models that are worked on, baseline first.
        tokenizer: Folder of the baseline's tokenizer.
        refresh: Steps to compute even if the store has them.
        metrics: Files of the study's own metrics.
        notes: What was decided for the user, and what is known already to make the study's numbers weak.
        missing: Candidates that failed, and why in one line; see `without`.
    """

    study: Study
    device: str
    dataset: str
    shards: tuple[tuple[str, Sequence[Sample]], ...]
    models: tuple[ModelPlan, ...]
    tokenizer: str | None = None
    refresh: frozenset[str] = frozenset()
    metrics: tuple[MetricsFile, ...] = ()
    notes: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the shards."""
        return tuple(unit for unit, _ in self.shards)

    @property
    def samples(self) -> list[Sample]:
        """All samples in order."""
        return [sample for _, part in self.shards for sample in part]

    @cached_property
    def comparison(self) -> StepKey:
        """Address of the comparison."""
        return comparison_key([(model.name, model.compared) for model in self.models], self.study.comparison)

    @property
    def store(self) -> Store:
        """The study's store."""
        return Store(self.study.store)


def make_plan(study: Study, refresh: frozenset[str] = frozenset()) -> Plan:
    """Read and check everything that a study names, short of loading a model.

    Args:
        study: What is to be done.
        refresh: Names of the steps that are to be computed even if the store has them; see `flows.refresh`.

    Raises:
        IndexscopeError: A checkpoint or the dataset cannot be used, or the models do not fit the dataset or each other.
    """
    metrics = tuple(read(file) for file in study.metrics)
    with own_metrics(metrics) as found:
        declared = found
    device = resolve_device(study.extract.device).partition(":")[0]
    folders = [resolve(model.path) for model in study.models]
    infos = [describe(folder) for folder in folders]
    tokenizer = _tokenizer(folders[0])
    data = _samples(study, folders, infos, tokenizer)
    study, samples = study.model_copy(update={"dataset": data.settings}), data.samples
    _check_lengths(study, samples, infos)
    dataset = dataset_fingerprint(samples)
    words = None if tokenizer is None else vocabulary_fingerprint(tokenizer)
    marks = [fingerprint(folder, study.fingerprint) for folder in folders]
    pooled = [features_key(mark, dataset, study.extract, device, study.shard_size) for mark in marks]
    models = tuple(
        _model_plan(study, number, folder, info, dataset, words, device, marks[number], pooled, declared)
        for number, (folder, info) in enumerate(zip(folders, infos, strict=True))
    )
    shards = tuple(shard(samples, study.shard_size))
    tokens = None if words is None else str(folders[0])
    notes = (*data.notes, *effect_warnings({model.name: model.info for model in models}, samples))
    return Plan(study, device, dataset, shards, models, tokens, refresh, metrics, notes)


def without(plan: Plan, missing: Mapping[str, str]) -> Plan:
    """The plan of what is left when candidates fail: its results have the addresses that a study without them has.

    Args:
        plan: The plan so far.
        missing: Names of candidates, and why each failed, in one line.
    """
    left = [model for model in plan.models if model.name not in missing]
    gone = {**plan.missing, **missing}
    pooled = [model.features for model in left]
    with own_metrics(plan.metrics) as declared:
        models = tuple(replace(model, analyses=_analyses(plan.study, model, pooled, declared)) for model in left)
    ordered = {model.name: gone[model.name] for model in plan.study.models if model.name in gone}
    return replace(plan, models=models, missing=ordered)


def analysis_settings(study: Study, analysis: str) -> Frozen:
    """The settings of one analysis."""
    settings: Frozen = getattr(study.analyses, analysis)
    return settings


def _model_plan(
    study: Study,
    number: int,
    folder: Path,
    info: CheckpointInfo,
    dataset: str,
    words: str | None,
    device: str,
    mark: str,
    pooled: Sequence[StepKey],
    declared: Sequence[Declared],
) -> ModelPlan:
    name = study.models[number].name
    features = pooled[number]
    measures = measures_key(mark, dataset, study.extract, device)
    probe = probe_key(mark, dataset, study.extract, study.probe, words, device)
    looked = [one for one in declared if one.is_feature]
    user_features = (
        user_features_key(mark, dataset, study.extract, device, study.shard_size, looked) if looked else None
    )
    role: Literal["baseline", "candidate"] = "candidate" if number else "baseline"
    checkpoint = Checkpoint(name, str(folder), mark)
    ran = ModelPlan(role, checkpoint, info, features, measures, probe, {}, user_features)
    return replace(ran, analyses=_analyses(study, ran, pooled, declared))


def _analyses(
    study: Study, model: ModelPlan, pooled: Sequence[StepKey], declared: Sequence[Declared]
) -> dict[str, StepKey]:
    """The addresses of a model's analyses; some depend on the features of all models of the study."""
    analyses: dict[str, StepKey] = {}
    for analysis in ANALYSES:
        sources = sources_of(analysis, {**model.ran, **analyses})
        own = analysis_settings(study, analysis)
        analyses[analysis] = analysis_key(analysis, sources, own, pooled if analysis in POOLED else ())
    if declared:
        sources = sources_of(CUSTOM, model.ran)
        analyses[CUSTOM] = analysis_key(CUSTOM, sources, analysis_settings(study, CUSTOM), (), declared)
    return analyses


def sources_of(analysis: str, steps: Mapping[str, StepKey]) -> dict[str, StepKey]:
    """The steps that an analysis reads, among those of its model."""
    reads = READS[analysis] if analysis != CUSTOM else [name for name in CUSTOM_READS if name in steps]
    return {name: steps[name] for name in reads}


def _samples(
    study: Study,
    folders: Sequence[Path],
    infos: Sequence[CheckpointInfo],
    tokenizer: PreTrainedTokenizerBase | None,
) -> Cut:
    """The dataset in the baseline's tokens, once it is sure that they mean the same to every candidate."""
    sizes = [info.vocab_size for info in infos if info.vocab_size is not None]
    vocabulary = min(sizes, default=len(tokenizer) if tokenizer else UNKNOWN_VOCABULARY)
    models = {model.name: info for model, info in zip(study.models, infos, strict=True)}
    data = cut(study.dataset, models, lambda settings: load_samples(settings, tokenizer, vocabulary))
    for model, folder in zip(study.candidates, folders[1:], strict=True):
        if tokenizer is not None and not _same_tokenizer(folders[0], folder):
            _check_tokens(study, model, data, _tokenizer(folder), vocabulary)
    return data


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    try:
        return load_tokenizer(folder)
    except IndexscopeError as error:
        if error.reason == "has no tokenizer":
            return None  # token ids in the data need none; text without one is refused where it is read
        raise


def _same_tokenizer(first: Path, second: Path) -> bool:
    contents = [folder / "tokenizer.json" for folder in (first, second)]
    return all(file.is_file() for file in contents) and contents[0].read_bytes() == contents[1].read_bytes()


def _check_tokens(study: Study, model: ModelRef, data: Cut, tokenizer: Any, vocabulary: int) -> None:
    if tokenizer is None:
        return
    try:
        own = load_samples(data.settings, tokenizer, vocabulary)
    except IndexscopeError:
        own = []  # ids beyond the baseline's vocabulary
    if dataset_fingerprint(own) != dataset_fingerprint(data.samples):
        reason = f"cuts the dataset into other tokens than {study.baseline.name}, so nothing could be paired"
        raise IndexscopeError(model.name, reason, "compare models that share a tokenizer")


def _check_lengths(study: Study, samples: Sequence[Sample], infos: Sequence[CheckpointInfo]) -> None:
    longest = max(samples, key=lambda sample: len(sample.input_ids))
    length = len(longest.input_ids)
    for model, info in zip(study.models, infos, strict=True):
        if info.max_positions is not None and length > info.max_positions:
            reason = f"was made for {info.max_positions} tokens, and sample {longest.name} has {length}"
            raise IndexscopeError(model.name, reason, f"set dataset.max_length to {info.max_positions} or less")


_ready: dict[tuple[Study, frozenset[str]], Plan] = {}


def prepare_plan(study: Study, refresh: frozenset[str] = frozenset()) -> Plan:
    """Make a plan ahead of the flow that will take it, so that bad input is told before Prefect starts."""
    _ready[study, refresh] = make_plan(study, refresh)
    return _ready[study, refresh]


def take_plan(study: Study, refresh: frozenset[str] = frozenset()) -> Plan:
    """The plan that was prepared for a study, once; else a new one."""
    return _ready.pop((study, refresh), None) or make_plan(study, refresh)
