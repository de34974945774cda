"""How a feature is declared: once, beside the code that computes it; its column and its metric follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from polars._typing import PolarsDataType

from indexscope.analysis.metrics.metric import Better, Family, Metric, Ratio
from indexscope.columns import Column

if TYPE_CHECKING:
    import torch

    from indexscope.analysis.features.seen import Seen


@dataclass(frozen=True)
class Feature(Metric):
    """A number of every query or token, kept as means by sample; the metric is the mean over all of them.

    Attributes:
        kernel: Its place in the arrays that the kernels fill, the same for ever: it is compiled into cached kernels.
            None where torch alone computes it, on the CPU too.
    """

    kernel: int | None = None

    def stored(self, dtype: PolarsDataType) -> Column:
        """Its column in the feature table."""
        return Column(self.name, dtype, self.meaning, self.unit, self.weight, self.label, self.of_attention)


@dataclass(frozen=True)
class FeatureFamily(Family):
    """Features that are read together, with metrics that derive from them, and the code that computes them.

    Attributes:
        measure: Features of some queries by name: [batch, heads, queries] those of heads, [batch, queries] others. What
            a feature's weight does not count is left out of it afterwards. None where something else calls the code.
        masked: Whether `measure` itself gives NaN where a feature does not count.
    """

    measure: Callable[[Seen], dict[str, torch.Tensor]] | None = None
    masked: bool = False

    @property
    def features(self) -> tuple[Feature, ...]:
        """Those of the metrics that have a column of their own."""
        return tuple(metric for metric in self.metrics if isinstance(metric, Feature))


def _feature(
    table: str,
    name: str,
    unit: str,
    meaning: str,
    formula: str,
    *,
    weight: str = "queries",
    better: Better = "neither",
    **more: Any,
) -> Feature:
    return Feature(name, unit, better, meaning, formula, Ratio(table, name, weight), **more)


#: A feature of every head and query, of every query, and of every predicted token.
of_heads, of_queries = partial(_feature, "attention"), partial(_feature, "indexer")
of_tokens = partial(_feature, "tokens", weight="tokens", per_layer=False)
