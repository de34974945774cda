"""What indexer and attention cost, to turn a change into a share of FLOPs."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from indexscope.analysis.conventions import SERVED
from indexscope.analysis.flops import attended_pairs, flops, shape
from indexscope.analysis.recommendations.change import Frames, rows_of

LONG = 65_536


@dataclass(frozen=True)
class Costs:
    """FLOPs of indexer and attention in one unit of work, as served: those of an FP8 indexer count half.

    Attributes:
        indexer: All indexers.
        indexer_pairs: Of these, the products of queries and keys; the rest are projections.
        attention: Attention as it is served, without projections.
    """

    indexer: float
    indexer_pairs: float
    attention: float

    def share(self, saved: float) -> float | None:
        """Saved FLOPs as a share of all; None where there are none."""
        total = self.indexer + self.attention
        return saved / total if total > 0 else None


def study_costs(frames: Frames) -> Costs | None:
    """As served, per token at the study's lengths, from the efficiency metrics and the facts."""
    metrics, facts = rows_of(frames, "efficiency.metrics", "metric", "value"), rows_of(frames, "facts")
    if metrics is None or facts is None:
        return None
    known = dict(metrics.filter(pl.col("value").is_not_null()).select("metric", "value").iter_rows())
    if not {"indexer_flops", "attention_flops"} <= known.keys():
        return None
    # The metric counts every operation whole.
    weight = shape(facts, layers=frames.get("layers")).indexer_weight(SERVED)
    pairs = known["indexer_flops"] - 2.0 * facts["indexer_parameters"][0]
    return Costs(weight * known["indexer_flops"], weight * max(pairs, 0.0), known["attention_flops"])


def long_costs(frames: Frames) -> Costs | None:
    """As served, of a prefill of 65,536 tokens, by formula from the facts."""
    facts = rows_of(frames, "facts")
    if facts is None or not facts["index_topk"][0]:
        return None
    model = shape(facts, layers=frames.get("layers"))
    if not model.has_formula:
        return None
    found = flops(model, LONG, SERVED)
    pairs = model.indexer_weight(SERVED) * model.indexer_pair * float(attended_pairs(LONG, None))
    return Costs(float(found.indexer), pairs, float(found.attention))
