"""How many keys keep how much of the attention: budgets, recall by k, and drift of the index scores."""

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
from indexscope.analysis.statistics.resampling import Array, ratio
from indexscope.columns import empty

METRIC = "adaptive_saving_95"
#: Raise it when any number of the analysis would change.
VERSION = 3

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
    """1 - A / F by sample and layer, and over all layers, so that it aggregates, pairs and resamples like a ratio.

    A is the mean number of keys that each query of a layer needs to reach the target in the order of its index scores,
    and F the mean number that the smallest k attends to which all queries of the layer share and which holds as much on
    average. F depends on the curve's two points around k and on the recall to reach. With s = 1 - A / F of a layer, a
    sample's numerator is w s + the first-order expansion of s around the dataset's sums, sum over these means x of
    ds/dx (X_i - x w_i) (as for positional_bias), its denominator w. Over all layers it is the mean of the layers' s
    weighted by the keys W F that the fixed budgets attend to: what a k of each query's own saves within layers, of all
    keys. Summed over samples the expansions vanish.

    Args:
        curve: Recall and keys of fixed budgets; all layers together come first, and are not read.
        keys: Keys of the adaptive budget, cells in the curve's order.
        mass: What these keys hold, alike.
    """
    layers = keys.groups["layer"].to_list()[1:]
    weight, adaptive = keys.denominator[:, 1:], keys.values[1:]
    plain, moved = _fixed_keys(curve, mass)
    saving = 1.0 - adaptive / plain
    own = (-(keys.numerator[:, 1:] - adaptive * weight) + adaptive / plain * moved) / plain
    known = np.isfinite(saving)
    weight, saving, plain = np.where(known, weight, 0.0), np.where(known, saving, 0.0), np.where(known, plain, 0.0)
    own, moved = np.where(known, own, 0.0), np.where(known, moved, 0.0)
    numerator = weight * saving + own
    everywhere = ratio((weight * plain * saving).sum(), (weight * plain).sum())
    together = plain * numerator + (saving - np.nan_to_num(everywhere)) * moved
    columns: tuple[Cell, ...] = ((METRIC, None), *((METRIC, layer) for layer in layers))
    tops = np.column_stack([together.sum(axis=1), numerator])
    return Sums(keys.samples, columns, tops, np.column_stack([(weight * plain).sum(axis=1), weight]))


def _fixed_keys(curve: Curve, mass: Cells) -> tuple[Array, Array]:
    """Keys F of the smallest k that holds as much, [layers], and by sample W dF to first order, [samples, layers]."""
    weight, kept_sums, recall_sums = curve.weight[:, 1:], curve.kept[:, 1:], curve.recall[:, 1:]
    total = weight.sum(axis=0)[:, None]
    recall, kept = ratio(recall_sums.sum(axis=0), total), ratio(kept_sums.sum(axis=0), total)
    held = mass.values[1:]
    found = fixed(curve.k, recall, kept, np.minimum(held, recall[:, -1]))
    upper, lower = found.upper, np.maximum(found.upper - 1, 0)
    layer, share = np.arange(len(held)), found.share
    step = recall[layer, upper] - recall[layer, lower]
    # Slope of the keys of a fixed budget by recall; a recall that one key reaches does not move them.
    slope = np.where(upper > 0, ratio(kept[layer, upper] - kept[layer, lower], step), 0.0)
    parts = (
        (slope, mass.numerator[:, 1:], held, mass.denominator[:, 1:]),
        (-slope * (1 - share), recall_sums[:, layer, lower], recall[layer, lower], weight),
        (-slope * share, recall_sums[:, layer, upper], recall[layer, upper], weight),
        (1 - share, kept_sums[:, layer, lower], kept[layer, lower], weight),
        (share, kept_sums[:, layer, upper], kept[layer, upper], weight),
    )
    moved = np.zeros_like(weight)
    for gradient, sums, mean, weights in parts:
        moved = moved + gradient * (sums - mean * weights)
    return found.keys, moved
