"""Budgets that hold a share of the attention: one k for all queries, and one for each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from indexscope.analysis.key_budget.curve import Curve, fixed
from indexscope.analysis.key_budget.tables import BUDGETS, KEYS_NEEDED
from indexscope.analysis.metrics.ratios import Cells, cells
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.ranges import NOT_NEGATIVE
from indexscope.analysis.statistics.resampling import Array, interval, ratio

OWN, FIXED, BY_LAYER = "model", "fixed", "fixed by layer"
INDEXER, ORACLE = "adaptive indexer", "adaptive oracle"


def needed(sums: pl.DataFrame, target: float) -> dict[str, Cells]:
    """The quantities of one target by layer, null first."""
    own = sums.filter(pl.col("target") == target)
    return {name: cells(own, ("layer",), name) for name in KEYS_NEEDED.weights}


def target_rows(target: float, found: Mapping[str, Cells], own: Curve, settings: BootstrapSettings) -> pl.DataFrame:
    """Three rows a layer for one target: the smallest fixed k, and the adaptive budgets in both orders.

    For all layers there is a fourth: each layer with the smallest fixed k of its own.
    """
    weight = own.weight.sum(axis=0)[:, None]
    wanted = np.full(len(weight), target)
    estimate = fixed(own.k, ratio(own.recall.sum(axis=0), weight), ratio(own.kept.sum(axis=0), weight), wanted)
    replicates = fixed(own.k, *_replicates(own, settings), np.full((settings.resamples, len(weight)), target))
    n = np.asarray((own.weight > 0).sum(axis=0), dtype=np.int64)
    low, high = interval(estimate.keys, replicates.keys, n, settings.confidence, NOT_NEGATIVE)
    # One key may already hold more than the target.
    recall = np.maximum(wanted, ratio(own.recall[..., 0].sum(axis=0), weight[:, 0])) + 0.0 * estimate.keys
    rows = [_rows(target, FIXED, found, (estimate.keys, low, high), recall, n, estimate.k)]
    by_layer = _together(own, estimate.keys), _together(own, replicates.keys)
    bounds = interval(by_layer[0], by_layer[1], n, settings.confidence, NOT_NEGATIVE)
    first = np.where(np.arange(len(n)) == 0, n, 0)
    rows.append(_rows(target, BY_LAYER, found, (by_layer[0], *bounds), _together(own, recall), first))
    for method, name in ((INDEXER, "indexer"), (ORACLE, "oracle")):
        keys = found[f"{name}_keys"]
        low, high = interval(keys.values, keys.replicates(settings), keys.n, settings.confidence, NOT_NEGATIVE)
        rows.append(_rows(target, method, found, (keys.values, low, high), found[f"{name}_mass"].values, keys.n))
    return pl.concat(rows)


def _together(own: Curve, values: Array) -> Array:
    """Means over the layers that have scores, [..., cells], all the same; each layer weighs as many queries."""
    weight = own.weight.sum(axis=0) * (np.arange(own.weight.shape[1]) > 0)
    mean = ratio((np.where(weight > 0, values, 0.0) * weight).sum(axis=-1, keepdims=True), weight.sum())
    return np.broadcast_to(mean, values.shape)


def own_rows(found: Mapping[str, Cells], own_k: Mapping[int | None, int], settings: BootstrapSettings) -> pl.DataFrame:
    """What the model itself attends to and holds, by layer; its k is the most keys that any query selects."""
    keys = found["attended"]
    low, high = interval(keys.values, keys.replicates(settings), keys.n, settings.confidence, NOT_NEGATIVE)
    k = np.array([own_k.get(layer, np.nan) for layer in keys.groups["layer"]], dtype=float)
    return _rows(None, OWN, found, (keys.values, low, high), found["own_recall"].values, keys.n, k)


def _rows(
    target: float | None,
    method: str,
    found: Mapping[str, Cells],
    keys: tuple[Array, Array, Array],
    recall: Array,
    n: Array | np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    k: Array | None = None,
) -> pl.DataFrame:
    value, low, high = keys
    size = len(value)
    columns = {
        "layer": found["eligible"].groups["layer"].to_list(),
        "target": [target] * size,
        "method": [method] * size,
        "k": np.full(size, np.nan) if k is None else k,
        "keys": value,
        "ci_low": low,
        "ci_high": high,
        "recall": recall,
        "share": value / found["eligible"].values,
        "relative_attention": value / found["attended"].values,
        "n": n,
    }
    frame = pl.DataFrame(columns, schema_overrides=BUDGETS.schema, strict=False)
    numbers = [name for name, kind in BUDGETS.schema.items() if kind == pl.Float64 and name != "target"]
    return frame.with_columns(finite_or_null(*numbers)).filter(pl.col("n") > 0)


def _replicates(own: Curve, settings: BootstrapSettings) -> tuple[Array, Array]:
    """Recall and keys of every budget in every resample, [resamples, cells, K]."""
    samples, many, size = own.recall.shape
    weight = np.repeat(own.weight, size, axis=1)
    no_groups = pl.DataFrame()
    parts = (Cells(no_groups, own.samples, part.reshape(samples, -1), weight) for part in (own.recall, own.kept))
    recall, kept = (part.replicates(settings).reshape(-1, many, size) for part in parts)
    return recall, kept
