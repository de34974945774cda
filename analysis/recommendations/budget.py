"""Other budgets of keys: smaller everywhere, or another in each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import polars as pl

from indexscope.analysis.flops import attended_pairs
from indexscope.analysis.recommendations import RecommendationSettings
from indexscope.analysis.recommendations.change import Change, Frames, best, counted, listed, rows_of
from indexscope.analysis.recommendations.costs import LONG, Costs
from indexscope.analysis.statistics.resampling import Array

Curves = Mapping[int, tuple[Array, Array]]
"""Layer to budgets (keys, increasing from above 0) and the recall of each."""
#: Fewer keys are worth a recommendation from one in a hundred on.
WORTH = 0.99
CAVEAT = (
    "Recall is of the k best keys by index score, linear between the budgets that were measured; without interval, as "
    "the curves are not kept by sample; not retrained."
)


def smaller_everywhere(
    frames: Frames, study: Costs | None, long: Costs | None, settings: RecommendationSettings
) -> list[Change]:
    """The smallest fixed k in every layer within the tolerance and within the limit, from the budgets of all layers."""
    return best(fixed_budgets(frames, study, long), settings.max_recall_loss, settings.tolerance)


def fixed_budgets(frames: Frames, study: Costs | None, long: Costs | None) -> list[Change]:
    """Every smaller k of all layers that holds a target of the budgets, the largest first."""
    table = rows_of(frames, "key_budget.budgets", "layer", "method", "k", "recall", "relative_attention")
    if table is None:
        return []
    rows = table.filter(pl.col("layer").is_null())
    own = rows.filter((pl.col("method") == "model") & pl.col("recall").is_not_null())
    if own.is_empty():
        return []
    before = own.row(0, named=True)
    fixed = rows.filter(
        (pl.col("method") == "fixed") & (pl.col("relative_attention") < 1) & pl.col("recall").is_not_null()
    )
    return [
        _smaller(
            (row["k"], before["k"]),
            before["recall"] - row["recall"],
            (study, long),
            1 - row["relative_attention"],
            counted("key_budget.budgets, fixed", row.get("n")),
        )
        for row in fixed.filter(pl.col("k") < (before["k"] or 0)).sort("k", descending=True).iter_rows(named=True)
    ]


def curve_budgets(frames: Frames, study: Costs | None, long: Costs | None, top_k: int | None) -> list[Change]:
    """Every smaller k of all layers at which the curve over all layers was measured, the largest first."""
    table = rows_of(frames, "key_budget.curve", "layer", "k", "indexer_recall", "kept")
    if table is None or not top_k:
        return []
    rows = table.filter(pl.col("layer").is_null()).drop_nulls(["indexer_recall", "kept"])
    k, recall, kept = (rows.sort("k")[name].to_numpy().astype(float) for name in ("k", "indexer_recall", "kept"))
    if not len(k) or k[-1] < top_k:
        return []
    before, all_kept = float(np.interp(top_k, k, recall)), float(np.interp(top_k, k, kept))
    basis = counted("key_budget.curve", _n(table))
    return [
        _smaller((own, top_k), before - held, (study, long), 1 - left / all_kept, basis)
        for own, held, left in zip(k.tolist(), recall.tolist(), kept.tolist(), strict=True)
        if own < top_k
    ][::-1]


def _smaller(
    k: tuple[float, float], loss: float, costs: tuple[Costs | None, Costs | None], fewer: float, basis: str
) -> Change:
    """Another k in every layer, instead of the second, by which that share of the attended pairs is saved."""
    study, long = costs
    return Change(
        kind="key_budget",
        change=f"k = {k[0]:.0f} instead of {k[1]:.0f} in every layer",
        loss=loss,
        low=None,
        high=None,
        reach=1.0,
        saving=None if study is None else study.share(study.attention * fewer),
        saving_at_64k=_long_saving(long, {0: int(k[0])}, int(k[1])),
        basis=basis,
        caveat=CAVEAT,
    )


def by_layer(
    frames: Frames, study: Costs | None, long: Costs | None, top_k: int | None, settings: RecommendationSettings
) -> list[Change]:
    """The same keys spread better, and the fewest keys that hold as much as now."""
    table = rows_of(frames, "key_budget.curve", "layer", "k", "indexer_recall")
    if table is None or not top_k:
        return []
    rows = table.filter(pl.col("layer").is_not_null() & pl.col("indexer_recall").is_not_null()).sort("layer", "k")
    curves = {
        int(str(layer)): (own["k"].to_numpy().astype(float), own["indexer_recall"].to_numpy().astype(float))
        for (layer,), own in rows.group_by("layer", maintain_order=True)
    }
    if len(curves) < 2:
        return []
    same = dict.fromkeys(curves, top_k)
    before = recall_of(curves, same)
    spread = allocate(curves, top_k * len(curves))
    fewest = allocate(curves, top_k * len(curves), before * len(curves))
    kept = _kept(rows)
    limit = min(settings.tolerance, settings.max_recall_loss)
    found = []
    for budget, worth in ((fewest, sum(fewest.values()) < WORTH * sum(same.values())), (spread, True)):
        change = _change(curves, budget, (top_k, before), (study, long), (kept, _n(table)))
        if worth and change.loss <= (limit if budget is fewest else -settings.tolerance):
            found.append(change)
    return found


def _change(
    curves: Curves,
    budget: Mapping[int, int],
    now: tuple[int, float],
    costs: tuple[Costs | None, Costs | None],
    known: tuple[Mapping[int, tuple[np.ndarray, np.ndarray]], object],
) -> Change:
    top_k, before = now
    study, long = costs
    kept, n = known
    fewer = top_k * len(curves) - sum(budget.values())
    ending = f" ({fewer} keys fewer in all)" if fewer > 0 else " (as many keys in all)"
    saving = None
    if study is not None and kept.keys() >= budget.keys():
        after, base = (
            sum(float(np.interp(keys, *kept[layer])) for layer, keys in chosen.items())
            for chosen in (budget, dict.fromkeys(budget, top_k))
        )
        saving = study.share(study.attention * (1 - after / base)) if base > 0 else None
    return Change(
        kind="allocation",
        change=f"{budget_words(budget)} instead of {top_k} everywhere{ending}",
        loss=before - recall_of(curves, budget),
        low=None,
        high=None,
        reach=1.0,
        saving=saving,
        saving_at_64k=_long_saving(long, budget, top_k),
        basis=counted("key_budget.curve", n),
        caveat=CAVEAT,
    )


def budget_words(budget: Mapping[int, int]) -> str:
    """Budgets in words, layers of equal ones together.

    >>> budget_words({0: 48, 1: 96, 2: 48})
    'k = 48 in layers 0 and 2, and 96 in layer 1'
    """
    groups: dict[int, list[int]] = {}
    for layer, keys in budget.items():
        groups.setdefault(keys, []).append(layer)
    parts = [f"{k} in {'layer' if len(own) == 1 else 'layers'} {listed(own)}" for k, own in groups.items()]
    return f"k = {parts[0]}" if len(parts) == 1 else f"k = {', '.join(parts[:-1])}, and {parts[-1]}"


def _kept(rows: pl.DataFrame) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Mean keys that a query attends to at each budget, by layer; none where the curve does not tell."""
    if "kept" not in rows.columns or rows["kept"].null_count():
        return {}
    return {
        int(str(layer)): (own["k"].to_numpy().astype(float), own["kept"].to_numpy().astype(float))
        for (layer,), own in rows.group_by("layer", maintain_order=True)
    }


def _long_saving(long: Costs | None, budget: Mapping[int, int], top_k: int) -> float | None:
    """Saving of attended pairs at 65,536 tokens; layers that are not sparse are few there or none."""
    if long is None:
        return None
    after = np.mean([float(attended_pairs(LONG, keys)) for keys in budget.values()])
    return long.share(long.attention * (1 - float(after) / float(attended_pairs(LONG, top_k))))


def _n(table: pl.DataFrame) -> object:
    return table["n"].max() if "n" in table.columns else None


def envelope(k: Array, recall: Array) -> tuple[Array, Array]:
    """The least concave curve on or above the points, from (0, 0); equal to the curve itself where it is concave.

    >>> [part.tolist() for part in envelope(np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.6, 0.7]))]
    [[0.0, 2.0, 3.0], [0.0, 0.6, 0.7]]
    """
    hull: list[tuple[float, float]] = []
    for point in [(0.0, 0.0), *zip(k.tolist(), recall.tolist(), strict=True)]:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return np.array([x for x, _ in hull]), np.array([y for _, y in hull])


def _slope(one: tuple[float, float], other: tuple[float, float]) -> float:
    return (other[1] - one[1]) / (other[0] - one[0])


def allocate(curves: Curves, total: int, enough: float = math.inf) -> dict[int, int]:
    """Budgets of the layers that add up to at most ``total`` and hold most recall, summed over the layers.

    Segments of the curves' concave envelopes are filled by falling slope (Fox 1966, "Discrete optimization via marginal
    analysis"): exact where recall is concave and linear between the given budgets. Layers start with one key each.

    Args:
        curves: Of every layer.
        total: Keys of all layers together.
        enough: Stop as soon as the summed recall reaches this.

    Returns:
        Keys by layer, at least 1.
    """
    budget = dict.fromkeys(curves, 1)
    hulls = {layer: envelope(*curve) for layer, curve in curves.items()}
    segments = []
    for layer, (k, recall) in hulls.items():
        for place in range(len(k) - 1):
            start, end = max(k[place], 1.0), k[place + 1]
            gain = (recall[place + 1] - recall[place]) / (k[place + 1] - k[place])
            if end > start and gain > 0:
                segments.append((-gain, layer, int(end - start)))
    left = total - len(curves)
    held = sum(float(np.interp(1.0, *hull)) for hull in hulls.values())
    for slope, layer, size in sorted(segments):
        wanted = math.ceil((enough - held) / -slope - 1e-9) if math.isfinite(enough) else size
        taken = max(0, min(size, left, wanted))
        budget[layer] += taken
        left -= taken
        held -= taken * slope
        if left <= 0 or taken < size:
            break
    return budget


def recall_of(curves: Curves, budget: Mapping[int, int]) -> float:
    """Mean recall over the layers, linear between the budgets that were measured."""
    return float(np.mean([recall_at(curves[layer], keys) for layer, keys in budget.items()]))


def recall_at(curve: tuple[Array, Array], keys: float) -> float:
    """Recall of one layer at a budget, from (0, 0) and flat beyond the last."""
    k, recall = curve
    return float(np.interp(keys, np.concatenate([[0.0], k]), np.concatenate([[0.0], recall])))
