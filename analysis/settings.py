"""Every setting of the science in one place: frozen values, passed down, never read from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from indexscope.analysis.statistics.margins import read_margin
from indexscope.settings import Frozen


def _increasing(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(later <= earlier for earlier, later in pairwise(values)):
        raise ValueError("the values must increase")
    return values


def _share(samples: int, every: int, least: int, most: int) -> int:
    """One of every so many, between two bounds."""
    return min(max(samples // every, least), most)


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Length = Annotated[int, Field(ge=1)]
Lengths = Annotated[tuple[Length, ...], Field(min_length=1), AfterValidator(_increasing)]
Quantiles = Annotated[tuple[Share, ...], Field(min_length=1), AfterValidator(_increasing)]


MARGINS: dict[str, float | str] = {"nll": 0.01}


class BootstrapSettings(Frozen):
    """How uncertainty is estimated: by resampling samples (documents) with replacement."""

    resamples: int = Field(
        default=500, ge=10, description="Bootstrap resamples of the samples, for confidence intervals."
    )
    confidence: float = Field(default=0.95, gt=0.0, lt=1.0, description="Coverage of the confidence intervals.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of the bootstrap.")


class ExtractSettings(Frozen):
    """How a model is run, and what counts as sparse, local and sink."""

    chunk: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description="Queries fed to the model at once; bounds the memory. auto: 16 to 256, by the memory there is.",
    )
    batch: int = Field(default=1, ge=1, description="Samples run side by side.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="Precision in which the model runs."
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto, cpu, cuda or cuda:N; auto takes a GPU where there is one.",
    )
    placement: Literal["auto", "whole", "devices", "stream"] = Field(
        default="auto",
        description="Where the weights are: whole, on one device; devices, on all GPUs and in memory; stream, read "
        "layer by layer; auto: the first of these that fits.",
    )
    sparsity_threshold: float = Field(
        default=0.01, gt=0.0, lt=1.0, description="Attention weights below this count towards the sparsity ratio."
    )
    local_window: int = Field(default=32, ge=1, description="Keys, the query's own included, that count as local.")
    sink_keys: int = Field(default=4, ge=1, description="First keys of a sequence that count as the sink.")
    top_k: int = Field(default=64, ge=1, description="Concentration budget (keys) of models without an indexer.")
    dense_reference: bool | Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description="Samples of a model with an indexer that run once more with every key selected, for dense_nll: a "
        "number of them, spread evenly over the dataset, true for all, false for none. auto: a quarter, at least 32 "
        "(of fewer than 29 nothing is called equivalent) and at most 256.",
    )
    query_every: int = Field(
        default=1,
        ge=1,
        description="Measure every q-th block of 16 queries; 1 measures all. The others run but are not looked at.",
    )
    selection_queries: int = Field(
        default=32, ge=0, le=4096, description="Queries of each sample whose selected keys are stored; 0 stores none."
    )
    profile_lengths: Lengths | None = Field(
        default=None,
        description="Lengths (tokens) at which latency is timed; null: the longest sample's, at most 512, its half and "
        "its quarter.",
    )
    profile_repeats: int = Field(
        default=5, ge=1, description="Timed repeats at each length, at most: fewer where three hardly differ."
    )

    def dense_samples(self, samples: int) -> int:
        """How many of so many samples have a dense reference.

        >>> [ExtractSettings().dense_samples(samples) for samples in (4, 64, 200, 5000)]
        [4, 32, 50, 256]
        """
        if isinstance(self.dense_reference, bool):
            return samples if self.dense_reference else 0
        wanted = _share(samples, 4, 32, 256) if self.dense_reference == "auto" else self.dense_reference
        return min(wanted, samples)


class CloseupSettings(Frozen):
    """How many samples and queries are looked at closely: indexer heads, other selections, other precisions."""

    samples: Annotated[int, Field(ge=1)] | None = Field(
        default=64, description="Samples that are looked at, spread evenly over the dataset; null: all."
    )
    queries: int = Field(default=32, ge=1, le=4096, description="Queries of each sample that are looked at.")
    rerun_samples: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        default="auto",
        description="Samples of the close-up that run again with other chunks, tie-breaks and precisions (8 runs). "
        "auto: one of every 32, at least 1 and at most 4.",
    )
    removal_samples: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        default="auto",
        description="Samples of the close-up, at most three quarters, that judge what is lost without indexer heads; "
        "the others choose which heads go first. auto: one of every 8, at least 4 and at most 16.",
    )
    top_logits: int = Field(
        default=4096,
        ge=0,
        description="Likeliest next tokens of each sampled query whose probability is stored; 0 stores none.",
    )
    attended_keys: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        default="auto",
        description="Most attended keys of each sampled query whose attention is stored; 0 stores none. "
        "auto: four times as many as are selected, at most 4,096.",
    )

    def rerun_of(self, samples: int) -> int:
        """How many of so many samples of the close-up run again under other conditions, at most."""
        return _share(samples, 32, 1, 4) if self.rerun_samples == "auto" else self.rerun_samples

    def removal_of(self, samples: int) -> int:
        """How many of so many samples of the close-up judge what is lost without indexer heads, at most."""
        return _share(samples, 8, 4, 16) if self.removal_samples == "auto" else self.removal_samples


class ComparisonSettings(BootstrapSettings):
    """How two models are compared on the same samples."""

    resamples: int = Field(default=2000, ge=10, description="Bootstrap resamples of the paired samples.")
    confidence: float = Field(
        default=0.95,
        gt=0.5,
        lt=1.0,
        description="Coverage of the confidence intervals; tests of differences and of equivalence are at 1 - this.",
    )
    margin: float = Field(
        default=0.01,
        gt=0.0,
        lt=1.0,
        description="Relative difference from the baseline that does not matter: what equivalent and no worse mean.",
    )
    margins: dict[str, float | str] = Field(
        default=MARGINS,
        description='Margins of single metrics: a number in the metric\'s unit, or "1%" of the baseline. '
        "nll: 0.01 nats are 1 % of the perplexity.",
    )

    @field_validator("margins", mode="before")
    @classmethod
    def _checked(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        for name, own in value.items():
            read_margin(str(name), own)
        return dict(sorted({**MARGINS, **{str(name): own for name, own in value.items()}}.items()))

    def __hash__(self) -> int:
        """Settings are keys of caches, which the mapping alone could not be."""
        return hash(self.model_dump_json())
