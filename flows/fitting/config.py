"""The file of a fit: which model, which indexers, on which data."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from indexscope import IndexscopeError
from indexscope.analysis.fitting.settings import IndexerSize, Stages, StepSettings, TrainingSettings
from indexscope.flows.optimise.settings import BaselineName, CostName, LossName, budget_of
from indexscope.flows.study.config import Text
from indexscope.settings import Frozen
from indexscope.storage.inputs.dataset_settings import DatasetSettings

#: Tokens of a sequence where the file asks for nothing.
LENGTH = 1024


class Training(StepSettings):
    """How a step is made, and in which precision, where, and what is kept on the way."""

    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Precision in which the body runs while indexers train; bfloat16 takes a fifth of the time on "
        "processors that multiply it. What is measured in the end is measured in float32.",
    )
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N.")
    evaluate_every: int = Field(default=100, ge=1, description="Steps from one look at held-out text to the next.")
    checkpoint_every: int = Field(default=25, ge=1, description="Steps that an interrupted fit loses at most.")
    keep_every: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Steps from one state of an indexer that is kept to the next, as steps/h4-d64/step-100 and on: a "
        "series for a study (docs/series.md). null keeps none.",
    )


class HeldOut(Frozen):
    """The text on which a fit is measured."""

    source: str = Field(
        default="",
        description="Other data than the dataset's; without, a tenth of its documents is held out from training.",
    )
    samples: int = Field(default=16, ge=2, description="Sequences that are measured.")
    queries: int = Field(default=64, ge=1, description="Queries of each that are looked at while indexers train.")


class Optimise(Frozen):
    """A search for cheaper edits of the indexers that were fitted."""

    max_loss: float = Field(
        default=0.005, ge=0, allow_inf_nan=False, description="Loss that an edit may have, upper end of its interval."
    )
    loss: LossName = Field(default="nll", description="What is lost: nll, output_kl or skill.")
    cost: CostName = Field(default="attention", description="What is saved: attention, indexer or latency.")
    budget: str = Field(
        default="40", coerce_numbers_to_str=True, description="Runs of all calibration samples, or a time, as in 5min."
    )
    samples: int = Field(
        default=16, ge=4, description="Sequences of training text that it sees, beyond those that indexers learn from."
    )
    baselines: tuple[BaselineName, ...] = Field((), description="Searches to compare it with: greedy, even, random.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Another one draws other proposals.")
    indexers: tuple[str, ...] = Field((), description="Which of the sweep are searched, as in h4-d64; by default all.")

    @field_validator("budget")
    @classmethod
    def _budget(cls, budget: str) -> str:
        try:
            budget_of(budget, "")
        except IndexscopeError as error:
            raise ValueError(f"{error.reason}; {error.remedy}") from None
        return budget


class Fit(Frozen):
    """One fit: a model, data, and the indexers of a sweep."""

    model: Text = Field(description="A checkpoint folder, builtin:baseline, or a hub name (owner/name).")
    dataset: DatasetSettings = Field(DatasetSettings(samples=512), description="What indexers are fitted on.")
    held_out: HeldOut = Field(HeldOut(), description="What they are measured on.")
    indexers: tuple[IndexerSize, ...] = Field(
        (IndexerSize(heads=4, dim=64),), description="The sweep: heads and dim of each indexer."
    )
    topk: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (64,), description="Numbers of keys that are selected in the sparse stage, and measured; ascending."
    )
    share: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1,),
        description="In the study that a fit ends in, layers from one that selects to the next, whose selection those "
        "between take; in 1 every layer selects. Ascending.",
    )
    optimise: Optimise | None = Field(
        None, description="Search cheaper edits of what was fitted, and put them into the same study."
    )
    stages: Stages = Field(Stages(), description="Steps of the two stages.")
    training: Training = Field(Training(), description="How a step is made.")
    out: Text = Field("fitted", description="Folder in which a folder for each indexer is made.")

    @property
    def length(self) -> int:
        """Tokens of a sequence."""
        return LENGTH if self.dataset.max_length == "auto" else self.dataset.max_length

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of the indexers of which cheaper edits are searched."""
        if self.optimise is None:
            return ()
        return self.optimise.indexers or tuple(indexer.name for indexer in self.indexers)

    @property
    def steps(self) -> int:
        """Steps over all stages."""
        return self.stages.dense + self.stages.sparse * len(self.indexers)

    @property
    def science(self) -> TrainingSettings:
        """What analysis is told."""
        told = self.training.model_dump(include=set(StepSettings.model_fields))
        return TrainingSettings(**told, **self.stages.model_dump())

    @field_validator("topk", "share")
    @classmethod
    def _ascending(cls, numbers: tuple[int, ...]) -> tuple[int, ...]:
        if not numbers:
            raise ValueError("is empty; give at least one number")
        if any(later <= earlier for earlier, later in pairwise(numbers)):
            raise ValueError("the numbers must increase; write each once, the smallest first")
        return numbers

    @field_validator("indexers")
    @classmethod
    def _distinct(cls, indexers: tuple[IndexerSize, ...]) -> tuple[IndexerSize, ...]:
        if not indexers:
            raise ValueError("is empty; give at least one, as {heads: 4, dim: 64}")
        names = [indexer.name for indexer in indexers]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"has {twice} twice; remove one")
        return indexers

    @model_validator(mode="after")
    def _some_steps(self) -> Fit:
        if not self.steps:
            raise ValueError("has no steps in stages; give stages.dense or stages.sparse a number above 0")
        names = [indexer.name for indexer in self.indexers]
        unknown = next((name for name in self.searched if name not in names), None)
        if unknown is not None:
            raise ValueError(f"has no indexer {unknown} that optimise.indexers names; choose of {', '.join(names)}")
        if self.topk[-1] >= self.length:
            reason = f"has a topk of {self.topk[-1]} in sequences of {self.length} tokens, which would select every key"
            raise ValueError(f"{reason}; lower topk, or raise dataset.max_length")
        return self
