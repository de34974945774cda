"""How many keys would do: budgets, recall by k, and drift of the index scores."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from indexscope.analysis.budget.budgets import needed, own_rows, target_rows
from indexscope.analysis.budget.curve import completed, curve
from indexscope.analysis.budget.saving import linearised_saving
from indexscope.analysis.budget.tables import CURVE, DRIFT, KEYS_NEEDED, RECALL_AT_K, RESULTS, SCORE_DRIFT
from indexscope.analysis.metrics.ratios import Cells, ratio_table, sample_sums, with_all_layers
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.summary import summarise
from indexscope.analysis.metrics.sums import Sums, join, per_sample
from indexscope.analysis.settings import BudgetSettings
from indexscope.columns import empty

TARGET = 0.95
_BANDS = {
    "oracle_recall": ("oracle_ci_low", "oracle_ci_high"),
    "indexer_recall": ("ci_low", "ci_high"),
}


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: BudgetSettings) -> dict[str, pl.DataFrame]:
    """What a fixed and an adaptive number of keys would hold and cost.

    "All layers" (layer null) are those with index scores; all, where no layer has any.

    Args:
        features: The probe's tables; ``keys_needed``, ``recall_at_k`` and ``score_drift`` are read.
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


def _curve(sums: pl.DataFrame, settings: BudgetSettings) -> pl.DataFrame:
    frame = ratio_table(sums, ("layer", "k"), _BANDS, settings, ("kept",))
    return CURVE.shaped(frame)


def _drift(features: Mapping[str, pl.DataFrame] | Sharded, settings: BudgetSettings) -> pl.DataFrame:
    sums = sample_sums(features, "score_drift", ("layer", "bucket"), SCORE_DRIFT.weights)
    if sums is None:
        return DRIFT.empty()
    parts = []
    for name in SCORE_DRIFT.weights:
        frame = ratio_table(sums, ("layer", "bucket"), {name: ("ci_low", "ci_high")}, settings)
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
