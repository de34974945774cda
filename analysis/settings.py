"""Every setting of the science in one place: frozen values, passed down, never read from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from indexscope.analysis.margins import read_margin
from indexscope.settings import Frozen


def _increasing(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(later <= earlier for earlier, later in pairwise(values)):
        raise ValueError("the values must increase")
    return values


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
    sparsity_threshold: float = Field(
        default=0.01, gt=0.0, lt=1.0, description="Attention weights below this count towards the sparsity ratio."
    )
    local_window: int = Field(default=32, ge=1, description="Keys, the query's own included, that count as local.")
    sink_keys: int = Field(default=4, ge=1, description="First keys of a sequence that count as the sink.")
    top_k: int = Field(default=64, ge=1, description="Concentration budget (keys) of models without an indexer.")
    dense_reference: bool = Field(
        default=True, description="Run a second forward with every key selected, for dense_nll."
    )
    query_every: int = Field(
        default=1,
        ge=1,
        description="Measure every q-th block of 16 queries; 1 measures all. The others run but are not looked at.",
    )
    selection_queries: int = Field(
        default=32, ge=0, le=4096, description="Queries of each sample whose selected keys are stored; 0 stores none."
    )
    profile_lengths: Lengths = Field(default=(128, 256, 512), description="Lengths (tokens) at which latency is timed.")
    profile_repeats: int = Field(default=5, ge=1, description="Timed repeats at each length.")


class ProbeSettings(Frozen):
    """How many samples and queries are looked at closely: indexer heads, other selections, other precisions."""

    samples: Annotated[int, Field(ge=1)] | None = Field(
        default=64, description="Samples that are probed, spread evenly over the dataset; null probes all."
    )
    queries: int = Field(default=32, ge=1, le=4096, description="Queries of each sample that are probed.")
    rerun_samples: int = Field(
        default=4,
        ge=0,
        description="Probed samples that run again with other chunks, tie-breaks and score precisions (8 runs each).",
    )
    top_logits: int = Field(
        default=4096,
        ge=0,
        description="Likeliest next tokens of each probed query whose probability is stored; 0 stores none.",
    )
    attended_keys: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        default="auto",
        description="Most attended keys of each probed query whose attention is stored; 0 stores none. "
        "auto: four times as many as are selected, at most 4,096.",
    )


class DistributionSettings(BootstrapSettings):
    """How metrics and the distributions of index scores are summarised."""

    quantiles: Quantiles = Field(
        default=(0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0),
        description="Quantiles of the index scores to report; 0 and 1 are the exact extremes.",
    )
    histogram_bins: int = Field(
        default=60, ge=1, le=10_000, description="Equal bins between a layer's smallest and largest index score."
    )


class ClusteringSettings(BootstrapSettings):
    """How attention patterns are grouped, and the uncertainty of what the groups hold."""

    clusters: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="Number of clusters, or auto: chosen by the silhouette."
    )
    max_clusters: int = Field(default=8, ge=2, description="Largest number of clusters that auto tries.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of k-means, the subsample and the bootstrap.")
    max_rows: int = Field(
        default=20_000,
        ge=10,
        description="Rows (sample, layer, head) to fit on; further rows join the nearest cluster.",
    )


class PositionalBiasSettings(BootstrapSettings):
    """How the uncertainty of the positional lift is estimated."""


class EfficiencySettings(BootstrapSettings):
    """To which context lengths the cost formulas are projected, and the score's uncertainty."""

    project_lengths: Lengths = Field(
        default=(4096, 16384, 65536, 262144, 1048576), description="Context lengths (tokens) of the projection."
    )


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


class HeadsSettings(BootstrapSettings):
    """How single indexer heads are summarised."""

    quantiles: Quantiles = Field(
        default=(0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0),
        description="Quantiles of each indexer head's scores to report; 0 and 1 are the exact extremes.",
    )


class BudgetSettings(BootstrapSettings):
    """How the uncertainty of budgets, curves and drift is estimated."""


class StabilitySettings(BootstrapSettings):
    """The uncertainty of the selection's stability, and from when on a layer counts as fragile."""

    fragile: float = Field(
        default=0.01,
        gt=0.0,
        lt=1.0,
        description="Share of a layer's selection that ties or FP8 scores change from which on it counts as fragile.",
    )


class SharingSettings(BootstrapSettings):
    """How the uncertainty of reuse across layers is estimated."""


class ContentSettings(BootstrapSettings):
    """How the uncertainty of lift by kind of token is estimated."""


class AdviceSettings(Frozen):
    """What a recommendation may lose."""

    max_recall_loss: Share = Field(
        default=0.01, description="Recall that a recommended change may lose at most (upper bound of its interval)."
    )
    tolerance: Share = Field(
        default=0.001,
        description="Recall that counts as nothing: changes that lose no more are ranked by saving alone.",
    )


class PrototypeSettings(Frozen):
    """How many real attention maps stand for a cluster."""

    of_each: int = Field(default=2, ge=1, le=16, description="Attention maps of each cluster to keep and to draw.")


class LengthSettings(BootstrapSettings):
    """How the uncertainty of metrics by context length is estimated."""


class CustomSettings(BootstrapSettings):
    """How the uncertainty of a study's own metrics is estimated."""


class AnalysisSettings(Frozen):
    """The settings of the analyses that follow extraction and probe."""

    distribution: DistributionSettings = Field(
        default=DistributionSettings(), description="Metrics and the distributions of index scores."
    )
    clustering: ClusteringSettings = Field(
        default=ClusteringSettings(), description="Clusters and types of attention patterns."
    )
    positional: PositionalBiasSettings = Field(
        default=PositionalBiasSettings(), description="Positional bias of the selection."
    )
    efficiency: EfficiencySettings = Field(default=EfficiencySettings(), description="Costs and their projection.")
    budget: BudgetSettings = Field(default=BudgetSettings(), description="How many keys would do; drift of the scores.")
    heads: HeadsSettings = Field(default=HeadsSettings(), description="What single indexer heads do.")
    sharing: SharingSettings = Field(default=SharingSettings(), description="Selections shared across layers.")
    content: ContentSettings = Field(default=ContentSettings(), description="What kinds of tokens are selected.")
    stability: StabilitySettings = Field(
        default=StabilitySettings(), description="Ties, chunks and score precisions that change the selection."
    )
    length: LengthSettings = Field(default=LengthSettings(), description="The metrics at shorter contexts.")
    prototypes: PrototypeSettings = Field(
        default=PrototypeSettings(), description="Real attention maps that stand for the clusters."
    )
    advice: AdviceSettings = Field(default=AdviceSettings(), description="What the data says to change.")
    custom: CustomSettings = Field(default=CustomSettings(), description="The study's own metrics, if it has any.")
