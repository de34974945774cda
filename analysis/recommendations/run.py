"""Recommendations, ranked, from the results of the other analyses."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.leaks import leaks
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.recommendations import RecommendationSettings
from indexscope.analysis.recommendations.budget import by_layer, curve_budgets, fixed_budgets, smaller_everywhere
from indexscope.analysis.recommendations.change import Change, Frames, best, counted, listed, rows_of
from indexscope.analysis.recommendations.costs import Costs, long_costs, study_costs
from indexscope.analysis.recommendations.tables import OPTIONS, RECOMMENDATIONS

CAVEAT = (
    "Losses were measured layer by layer without retraining; of the heads' own projections nothing is counted as saved."
)
#: Raise it when any number of the analysis would change.
VERSION = 4

_SMALLEST_LOSS = 1e-9


def run(features: Frames, settings: RecommendationSettings) -> dict[str, pl.DataFrame]:
    """What to change, each change on its own.

    A change is recommended only where the upper bound of its loss (the estimate, where no interval is known) is at most
    max_recall_loss. Those that lose no more than the tolerance come first, by saving; the others follow by saving per
    mean loss over all layers. Of a model that leaks nothing is recommended.

    Args:
        features: Result frames of other analyses: those that it reads by name (`indexer_heads.pruning`,
            `key_budget.curve`, …), audit, facts and layers; any may be absent.
        settings: Limit and tolerance.

    Returns:
        recommendations: rank from 1, kind, change (a plain sentence), expected_loss (recall, in the layers that change;
        below 0 a gain) with ci_low and ci_high, mean_loss (over all layers), saving and saving_at_64k (share of the
        FLOPs of indexer and attention as served, at the study's lengths and at 65,536 tokens), basis, caveat.
        recommendation_options: every change of all layers together that was weighed, recommended or not.
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
    weighed = [
        *_pruned(features, study, long, max(len(layers), 1)).get(None, []),
        *_schedules(features, study, long, layers),
        *fixed_budgets(features, study, long),
        *curve_budgets(features, study, long, top_k),
    ]
    audit = rows_of(features, "audit", "passed")
    if audit is not None and leaks(audit):
        changes, weighed = [], []
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
    frame = pl.DataFrame(rows, schema=RECOMMENDATIONS.schema, strict=False)
    return {
        "recommendations": frame.with_columns(finite_or_null(*RECOMMENDATIONS.floats)),
        "recommendation_options": _options(weighed, changes),
    }


def _options(weighed: Sequence[Change], recommended: Sequence[Change]) -> pl.DataFrame:
    rows = [
        {
            "kind": change.kind,
            "change": change.change,
            "expected_loss": change.loss,
            "ci_low": change.low,
            "ci_high": change.high,
            "saving": change.saving,
            "saving_at_64k": change.saving_at_64k,
            "recommended": change in recommended,
        }
        for change in weighed
    ]
    frame = pl.DataFrame(rows, schema=OPTIONS.schema, strict=False).with_columns(finite_or_null(*OPTIONS.floats))
    saved = pl.coalesce("saving", "saving_at_64k")
    return frame.sort("kind", saved, "expected_loss", nulls_last=True, maintain_order=True)


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
    curve = rows_of(features, "key_budget.curve", "layer")
    if curve is not None:
        return sorted(curve["layer"].drop_nulls().unique().to_list())
    return [] if facts is None else list(range(facts["layers"][0]))


def fewer_heads(
    frames: Frames, study: Costs | None, long: Costs | None, layers: int, settings: RecommendationSettings
) -> list[Change]:
    """Of every layer, and of all together, the heads that can go within the tolerance and within the limit."""
    groups = _pruned(frames, study, long, layers)
    return [change for own in groups.values() for change in best(own, settings.max_recall_loss, settings.tolerance)]


def _pruned(frames: Frames, study: Costs | None, long: Costs | None, layers: int) -> dict[int | None, list[Change]]:
    """All heads that could go, one after the other: of each layer, and of all together under None."""
    table = rows_of(
        frames, "indexer_heads.pruning", "layer", "removed", "recall_loss", "ci_low", "ci_high", "flops_share"
    )
    found: dict[int | None, list[Change]] = {}
    if table is None:
        return found
    for (layer,), rows in table.sort("layer", "removed").group_by("layer", maintain_order=True):
        of = None if layer is None else int(str(layer))
        gone = rows.filter((pl.col("removed") > 0) & pl.col("recall_loss").is_not_null())
        found[of] = [_change(of, row, rows, (study, long), layers) for row in gone.iter_rows(named=True)]
    return found


def _change(
    layer: int | None,
    row: dict[str, float | int | None],
    rows: pl.DataFrame,
    costs: tuple[Costs | None, Costs | None],
    layers: int,
) -> Change:
    removed, left = int(row["removed"] or 0), float(row["flops_share"] or 0.0)
    heads = round(removed / (1 - left)) if left < 1 else removed
    where = "every layer" if layer is None else f"layer {layer}"
    gone = ""
    if layer is not None and "indexer_head" in rows.columns:
        order = rows.filter((pl.col("removed") > 0) & (pl.col("removed") <= removed)).sort("removed")["indexer_head"]
        known = order.drop_nulls().to_list()
        gone = f" ({'head' if len(known) == 1 else 'heads'} {listed(known)})" if known else ""
    reach = 1.0 if layer is None else 1.0 / layers
    study, long = (None if cost is None else cost.share(cost.indexer_pairs * (1 - left) * reach) for cost in costs)
    return Change(
        kind="indexer heads",
        change=f"drop {removed} of {heads} indexer heads in {where}{gone}",
        loss=float(row["recall_loss"] or 0.0),
        low=row["ci_low"],
        high=row["ci_high"],
        reach=reach,
        saving=study,
        saving_at_64k=long,
        basis=counted("indexer_heads.pruning", row.get("n")),
        caveat=CAVEAT,
    )


def fewer_indexers(
    frames: Frames, study: Costs | None, long: Costs | None, layers: Sequence[int], settings: RecommendationSettings
) -> list[Change]:
    """The exact schedules with the fewest indexers within the tolerance and within the limit.

    The loss is the one on held-out samples where it is known: the other is of the samples that chose the schedule.
    """
    return best(_schedules(frames, study, long, layers), settings.max_recall_loss, settings.tolerance)


def _schedules(frames: Frames, study: Costs | None, long: Costs | None, layers: Sequence[int]) -> list[Change]:
    table = rows_of(frames, "layer_sharing.schedules", "indexers", "method", "layers", "loss", "indexer_share")
    if table is None:
        return []
    rows = table.filter((pl.col("method") == "exact") & (pl.col("indexer_share") < 1) & pl.col("loss").is_not_null())
    return [
        _fewer_change(row, study, long, layers) for row in rows.sort("indexers", descending=True).iter_rows(named=True)
    ]


def _fewer_change(
    row: dict[str, float | int | str | None], study: Costs | None, long: Costs | None, layers: Sequence[int]
) -> Change:
    kept = [int(layer) for layer in str(row["layers"]).split(",")]
    held = row.get("loss_held_out")
    prefix = "" if held is None else "held_out_"
    freed = 1.0 - _number(row["indexer_share"])
    bounds = [row.get(f"{prefix}{name}") for name in ("ci_low", "ci_high")]
    if held is not None and bounds == [None, None]:
        bounds = [row.get("ci_low"), row.get("ci_high")]
    caveat = "Measured one layer at a time on the model's own hidden states, without propagation or retraining"
    if row.get("worst_layer") is not None:
        caveat += f"; layer {row['worst_layer']} loses most, {_number(row.get('worst_loss')):.4f}"
    if held is None:
        caveat += "; the loss is of the samples that chose the schedule, so it is optimistic"
    return Change(
        kind="layer_sharing",
        change=reuse_words(kept, layers),
        loss=_number(row["loss"] if held is None else held),
        low=_known(bounds[0]),
        high=_known(bounds[1]),
        reach=1.0,
        saving=None if study is None else study.share(study.indexer * freed),
        saving_at_64k=None if long is None else long.share(long.indexer * freed),
        basis=counted("layer_sharing.schedules, exact", row.get("n")),
        caveat=f"{caveat}.",
    )


def reuse_words(kept: Sequence[int], layers: Sequence[int]) -> str:
    """Who reuses whose selection, in words.

    >>> reuse_words([0, 1, 4], [0, 1, 2, 3, 4, 5])
    'let layers 2 and 3 reuse the selection of layer 1, and layer 5 that of layer 4'
    """
    users: dict[int, list[int]] = {}
    for layer in layers:
        source = max((one for one in kept if one <= layer), default=None)
        if source is not None and layer not in kept:
            users.setdefault(source, []).append(layer)
    parts: list[str] = []
    for source, own in users.items():
        who = f"{'layer' if len(own) == 1 else 'layers'} {listed(own)}"
        parts.append(f"{who} that of layer {source}" if parts else f"let {who} reuse the selection of layer {source}")
    return ", and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _known(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
