"""Recommendations, ranked, from the results of the other analyses."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.advice.budget import by_layer, smaller_everywhere
from indexscope.analysis.advice.change import Change, Frames, rows_of
from indexscope.analysis.advice.costs import long_costs, study_costs
from indexscope.analysis.advice.heads import fewer_heads
from indexscope.analysis.advice.sharing import fewer_indexers
from indexscope.analysis.advice.tables import ADVICE
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.settings import AdviceSettings

_SMALLEST_LOSS = 1e-9


def run(features: Frames, settings: AdviceSettings) -> dict[str, pl.DataFrame]:
    """What to change, each change on its own.

    A change is recommended only where the upper bound of its loss (the estimate, where no interval is known) is at most
    max_recall_loss. Those that lose no more than the tolerance come first, by saving; the others follow by saving per
    mean loss over all layers.

    Args:
        features: Result frames of other analyses: heads.pruning, sharing.schedules, budget.budgets, budget.curve,
            efficiency.projection, efficiency.metrics, facts and layers; any may be absent.
        settings: Limit and tolerance.

    Returns:
        advice: rank from 1, kind, change (a plain sentence), expected_loss (recall, in the layers that change; below 0
        a gain) with ci_low and ci_high, mean_loss (over all layers), saving and saving_at_64k (share of the FLOPs of
        indexer and attention, at the study's lengths and at 65,536 tokens), basis, caveat.
    """
    facts = rows_of(features, "facts")
    layers = _layers(features, facts)
    top_k = None if facts is None else facts["index_topk"][0]
    study, long = study_costs(features), long_costs(features)
    changes = [
        *fewer_heads(features, study, long, max(len(layers), 1), settings),
        *fewer_indexers(features, study, long, layers, settings),
        *smaller_everywhere(features, study, long, settings),
        *by_layer(features, study, long, top_k, settings),
    ]
    ranked = sorted(changes, key=lambda change: _order(change, settings.tolerance))
    rows = [
        {
            "rank": place,
            "kind": change.kind,
            "change": change.change,
            "expected_loss": change.loss,
            "ci_low": change.low,
            "ci_high": change.high,
            "mean_loss": change.loss * change.reach,
            "saving": change.saving,
            "saving_at_64k": change.saving_at_64k,
            "basis": change.basis,
            "caveat": change.caveat,
        }
        for place, change in enumerate(ranked, 1)
    ]
    frame = pl.DataFrame(rows, schema=ADVICE.schema, strict=False)
    return {"advice": frame.with_columns(finite_or_null(*ADVICE.floats))}


def _order(change: Change, tolerance: float) -> tuple[int, float, float]:
    saved = change.saving if change.saving is not None else change.saving_at_64k or 0.0
    if change.worst <= tolerance:
        return 0, -saved, change.loss
    return 1, -saved / max(change.loss * change.reach, _SMALLEST_LOSS), change.loss


def _layers(features: Frames, facts: pl.DataFrame | None) -> list[int]:
    """Layers that attend to a selection: as measured, else those with a recall curve, else all."""
    layers = rows_of(features, "layers", "layer", "selects")
    if layers is not None:
        return sorted(layers.filter(pl.col("selects"))["layer"].to_list())
    curve = rows_of(features, "budget.curve", "layer")
    if curve is not None:
        return sorted(curve["layer"].drop_nulls().unique().to_list())
    return [] if facts is None else list(range(facts["layers"][0]))
