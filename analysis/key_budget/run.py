"""How many keys would do: budgets, recall by k, and drift of the index scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from indexscope.analysis.key_budget import KeyBudgetSettings
from indexscope.analysis.key_budget.budgets import needed, own_rows, target_rows
from indexscope.analysis.key_budget.curve import Curve, completed, curve, fixed
from indexscope.analysis.key_budget.tables import CURVE, DRIFT, KEYS_NEEDED, RECALL_AT_K, RESULTS, SCORE_DRIFT
from indexscope.analysis.metrics.ratios import Cells, ratio_table, sample_sums, with_all_layers
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.summary import summarise
from indexscope.analysis.metrics.sums import Cell, Sums, join, per_sample
from indexscope.analysis.statistics.ranges import NOT_NEGATIVE, SHARE
from indexscope.analysis.statistics.resampling import ratio
from indexscope.columns import empty

METRIC = "adaptive_saving_95"
#: Raise it when any number of the analysis would change.
VERSION = 2

TARGET = 0.95
_BANDS = {
    "oracle_recall": ("oracle_ci_low", "oracle_ci_high"),
    "indexer_recall": ("ci_low", "ci_high"),
}
_DRIFTING = {"zero_share": SHARE} | dict.fromkeys(("sd", "margin", "selected_sd", "unselected_sd"), NOT_NEGATIVE)


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: KeyBudgetSettings) -> dict[str, pl.DataFrame]:
    """What a fixed and an adaptive number of keys would hold and cost.

    "All layers" (layer null) are those with index scores; all, where no layer has any.

    Args:
        features: The close-up's tables; ``keys_needed``, ``recall_at_k`` and ``score_drift`` are read.
        settings: The bootstrap.

    Returns:
        budgets: layer, target, method, k, keys with interval, recall, share, relative_attention, n; the model's own
        budget has no target, and only all layers together have a budget fixed by layer.
        curve: recall of the k best keys by index score and by attention, with intervals. drift: quantities of the
        index scores by position bucket. metrics and per_sample: oracle_keys_95 (over all layers), indexer_keys_95 and
        adaptive_saving_95, which are there where there are index scores.
    """
    needs = sample_sums(features, "keys_needed", ("layer", "target"), KEYS_NEEDED.weights)
    points = sample_sums(features, "recall_at_k", ("layer", "k"), RECALL_AT_K.weights)
    found = {**empty(RESULTS), "drift": _drift(features, settings)}
    if needs is None or points is None:
        return found
    scored = needs.filter(pl.col("indexer_keys_weight") > 0)["layer"].unique().to_list()
    pooled = scored or None
    whole = completed(points)
    found["curve"] = _curve(with_all_layers(whole, pooled), settings)
    own = curve(with_all_layers(whole, pooled))
    by_layer = with_all_layers(needs, pooled)
    targets = sorted(needs["target"].unique().to_list())
    rows = [target_rows(target, needed(by_layer, target), own, settings) for target in targets]
    model = own_rows(needed(by_layer, targets[0]), _own_k(features, scored), settings)
    order = pl.col("layer"), pl.col("target")
    found["budgets"] = pl.concat([model, *rows]).sort(*order, nulls_last=False, maintain_order=True)
    if TARGET not in targets:
        return found
    everywhere = needed(with_all_layers(needs), TARGET)
    parts = [_plain("oracle_keys_95", everywhere["oracle_keys"])]
    if scored:
        pool = needed(by_layer, TARGET)
        parts.append(_plain("indexer_keys_95", pool["indexer_keys"]))
        parts.append(linearised_saving(own, pool["indexer_keys"], pool["indexer_mass"]))
    sums = join(parts)
    return found | {"metrics": summarise(sums, settings), "per_sample": per_sample(sums)}


def _plain(metric: str, own: Cells) -> Sums:
    layers = own.groups["layer"].to_list()
    return Sums(own.samples, tuple((metric, layer) for layer in layers), own.numerator, own.denominator)


def _curve(sums: pl.DataFrame, settings: KeyBudgetSettings) -> pl.DataFrame:
    frame = ratio_table(sums, ("layer", "k"), _BANDS, settings, ("kept",), dict.fromkeys(_BANDS, SHARE))
    return CURVE.shaped(frame)


def _drift(features: Mapping[str, pl.DataFrame] | Sharded, settings: KeyBudgetSettings) -> pl.DataFrame:
    sums = sample_sums(features, "score_drift", ("layer", "bucket"), SCORE_DRIFT.weights)
    if sums is None:
        return DRIFT.empty()
    parts = []
    for name in SCORE_DRIFT.weights:
        frame = ratio_table(sums, ("layer", "bucket"), {name: ("ci_low", "ci_high")}, settings, within=_DRIFTING)
        parts.append(frame.rename({name: "value"}).with_columns(quantity=pl.lit(name)).select(*DRIFT.schema))
    return pl.concat(parts).filter(pl.col("n") > 0).cast(DRIFT.schema).sort("layer", "bucket", maintain_order=True)


def _own_k(features: Mapping[str, pl.DataFrame] | Sharded, scored: list[int]) -> dict[int | None, int]:
    """The most keys that a query selects in each layer, and in those with scores; none where a layer is dense."""
    most: dict[int | None, int] = {}
    for part in shards(features, ("keys_needed",)):
        if "keys_needed" in part:
            rows = part["keys_needed"].group_by("layer").agg(pl.col("own_k").max()).drop_nulls()
            for layer, k in rows.iter_rows():
                most[layer] = max(k, most.get(layer, 0))
    if scored:
        most[None] = max(most.get(layer, 0) for layer in scored)
    return most


def linearised_saving(curve: Curve, keys: Cells, mass: Cells) -> Sums:
    """1 - A / F by sample and cell, so that it aggregates, pairs and resamples like a ratio of sums.

    A is the mean number of keys that each query needs to reach the target in the order of its index scores, and F the
    mean number that the smallest fixed k attends to which holds as much on average as those keys do. F depends on the
    curve's two points around k and on the recall to reach; a sample's numerator is w S + sum over these means x of
    dS/dx (X_i - x w_i), the first-order expansion around the dataset's sums (as for positional_bias). Summed over
    samples the second term vanishes.

    Args:
        curve: Recall and keys of fixed budgets.
        keys: Keys of the adaptive budget, cells in the curve's order.
        mass: What these keys hold, alike.
    """
    weight = keys.denominator
    total = curve.weight.sum(axis=0)
    recall = ratio(curve.recall.sum(axis=0), total[:, None])
    kept = ratio(curve.kept.sum(axis=0), total[:, None])
    wanted = np.minimum(mass.values, recall[:, -1])
    found = fixed(curve.k, recall, kept, wanted)
    adaptive, plain = keys.values, found.keys
    saving = 1.0 - adaptive / plain
    numerator = weight * saving
    at_upper, at_lower = found.upper, np.maximum(found.upper - 1, 0)
    column = np.arange(len(saving))
    step = recall[column, at_upper] - recall[column, at_lower]
    # Slope of the keys of a fixed budget by recall; a recall that one key reaches does not move them.
    slope = np.where(at_upper > 0, ratio(kept[column, at_upper] - kept[column, at_lower], step), 0.0)
    outer = adaptive / plain**2
    share = found.share
    parts = (
        (-1.0 / plain, keys.numerator, adaptive, weight),
        (outer * slope, mass.numerator, mass.values, weight),
        (-outer * slope * (1 - share), curve.recall[:, column, at_lower], recall[column, at_lower], curve.weight),
        (-outer * slope * share, curve.recall[:, column, at_upper], recall[column, at_upper], curve.weight),
        (outer * (1 - share), curve.kept[:, column, at_lower], kept[column, at_lower], curve.weight),
        (outer * share, curve.kept[:, column, at_upper], kept[column, at_upper], curve.weight),
    )
    for gradient, sums, mean, weights in parts:
        numerator = numerator + gradient * (sums - mean * weights)
    known = np.isfinite(saving)
    columns: tuple[Cell, ...] = tuple((METRIC, layer) for layer in keys.groups["layer"].to_list())
    return Sums(keys.samples, columns, np.where(known, numerator, 0.0), np.where(known, weight, 0.0))
