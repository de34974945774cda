"""What a study works on, read and fingerprinted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from indexscope.flows.study.config import Study
from indexscope.plugins import PluginFile
from indexscope.storage.inputs.checkpoints import CheckpointInfo
from indexscope.storage.inputs.samples import Sample
from indexscope.storage.store.store import Store
from indexscope.tasks.common.declared import Given
from indexscope.tasks.common.dumps import Dump
from indexscope.tasks.common.origin import Checkpoint


@dataclass(frozen=True)
class ModelPlan:
    """One model of the study.

    Attributes:
        role: What it is to the others.
        checkpoint: What jobs are told of it.
        info: What it says of itself.
        tokenizer: Folder that its tokenizer would be in; None for a loader's model without one.
    """

    role: Literal["baseline", "candidate"]
    checkpoint: Checkpoint
    info: CheckpointInfo
    tokenizer: Path | None = None

    @property
    def name(self) -> str:
        """What the study calls it."""
        return self.checkpoint.name


@dataclass(frozen=True)
class DumpPlan:
    """Selections of the study that were made elsewhere.

    Attributes:
        role: What they are to the others.
        dump: What jobs are told of them.
        format: How they are written.
        unused: Names of the records that are of no sample.
    """

    role: Literal["baseline", "candidate"]
    dump: Dump
    format: str
    unused: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the study calls them."""
        return self.dump.name


@dataclass(frozen=True)
class Inputs:
    """What a study works on.

    Attributes:
        study: What was asked for, whatever failed since, with the length of the samples in numbers.
        given: What of it determines results.
        shards: Name and samples of each shard.
        models: The models that are run, baseline first.
        dumps: The selections from elsewhere that are worked on, the baseline's first.
        tokenizer: Folder of the baseline's tokenizer.
        plugins: Files of the study's plug-ins.
        missing: Candidates that failed, and why in one line; see `indexscope.flows.study.plan.without`.
    """

    study: Study
    given: Given
    shards: tuple[tuple[str, Sequence[Sample]], ...]
    models: tuple[ModelPlan, ...]
    tokenizer: str | None = None
    plugins: tuple[PluginFile, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    dumps: tuple[DumpPlan, ...] = ()

    @property
    def samples(self) -> list[Sample]:
        """All samples in order."""
        return [sample for _, part in self.shards for sample in part]

    @property
    def store(self) -> Store:
        """The study's store."""
        return Store(self.study.store)
