"""What indexer and attention cost, to turn a change into a share of FLOPs."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from indexscope.analysis.efficiency.reference import THIS
from indexscope.analysis.flops import attended_pairs, flops, shape
from indexscope.analysis.recommendations.change import Frames, rows_of

LONG = 65_536


@dataclass(frozen=True)
class Costs:
    """FLOPs of indexer and attention in one unit of work.

    Attributes:
        indexer: All indexers.
        indexer_pairs: Of these, the products of queries and keys; the rest are projections.
        attention: Attention as the model runs it, without projections.
    """

    indexer: float
    indexer_pairs: float
    attention: float

    def share(self, saved: float) -> float | None:
        """Saved FLOPs as a share of all; None where there are none."""
        total = self.indexer + self.attention
        return saved / total if total > 0 else None


def study_costs(frames: Frames) -> Costs | None:
    """FLOPs per token at the study's lengths, from the efficiency metrics and the facts."""
    metrics, facts = rows_of(frames, "efficiency.metrics", "metric", "value"), rows_of(frames, "facts")
    if metrics is None or facts is None:
        return None
    known = dict(metrics.filter(pl.col("value").is_not_null()).select("metric", "value").iter_rows())
    if not {"indexer_flops", "attention_flops"} <= known.keys():
        return None
    pairs = known["indexer_flops"] - 2.0 * facts["indexer_parameters"][0]
    return Costs(known["indexer_flops"], max(pairs, 0.0), known["attention_flops"])


def long_costs(frames: Frames) -> Costs | None:
    """FLOPs of a prefill of 65,536 tokens: as projected, else by formula from the facts."""
    facts = rows_of(frames, "facts")
    if facts is None or not facts["index_topk"][0]:
        return None
    model = shape(facts, layers=frames.get("layers"))
    if not model.has_formula:
        return None
    found = flops(model, LONG)
    indexer, attention = float(found.indexer), float(found.attention)
    projected = rows_of(frames, "efficiency.projection", "length", "component", "flops")
    if projected is not None:
        if "dimensions" in projected.columns:
            projected = projected.filter(pl.col("dimensions") == THIS)
        own = projected.filter(pl.col("length") == LONG)
        known = dict(own.select("component", "flops").iter_rows())
        indexer, attention = known.get("indexer", indexer), known.get("attention", attention)
    return Costs(indexer, model.indexer_pair * float(attended_pairs(LONG, None)), attention)
