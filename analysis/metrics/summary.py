"""Estimates with confidence intervals, as the ``metrics`` frame that all analyses share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.metrics.metric import Derived
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.sums import Cell, Sums
from indexscope.analysis.metrics.tables import METRICS
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.resampling import Array, bootstrap_ratios, interval, ratio


def summarise(sums: Sums, settings: BootstrapSettings) -> pl.DataFrame:
    """Estimate every cell, and whatever derives from the cells, with intervals from resampled samples.

    Returns:
        metric, layer, value, unit, ci_low, ci_high, n (samples with weight). A cell in which no sample has weight has
        a null value and n = 0.
    """
    values = ratio(sums.numerator.sum(axis=0), sums.denominator.sum(axis=0))
    replicates = bootstrap_ratios(sums.numerator, sums.denominator, settings.resamples, settings.seed)
    n = (sums.denominator > 0).sum(axis=0)
    cells, values, replicates, n = with_derived(sums.cells, values, replicates, n)
    low, high = interval(values, replicates, n, settings.confidence, ranges(name for name, _ in cells))
    return metrics_frame(cells, values, low, high, n)


def ranges(names: Iterable[str]) -> tuple[Array, Array]:
    """The least and the greatest value of each metric, two arrays [metrics]."""
    least, most = np.array([REGISTRY[name].bounds for name in names], np.float64).reshape(-1, 2).T
    return least, most


def with_derived(
    cells: Sequence[Cell], values: Array, replicates: Array, n: NDArray[np.int64]
) -> tuple[tuple[Cell, ...], Array, Array, NDArray[np.int64]]:
    """Append the metrics that derive from those at hand, estimate and replicates alike.

    Args:
        cells: (metric, layer) of each column.
        values: Estimates, [cells].
        replicates: Bootstrap replicates, [resamples, cells].
        n: Samples behind each estimate, [cells].

    Returns:
        The four, longer by one column for each derived metric and layer whose bases are all there.
    """
    place = {cell: column for column, cell in enumerate(cells)}
    layers = list(dict.fromkeys(layer for _, layer in cells))
    new_cells, columns = [], []
    for name, metric in REGISTRY.items():
        rule = metric.rule
        if not isinstance(rule, Derived):
            continue
        for layer in layers:
            bases = [place.get((base, layer)) for base in rule.bases]
            if None in bases:
                continue
            known = [base for base in bases if base is not None]
            columns.append(
                (
                    rule.function(*(values[base] for base in known)),
                    rule.function(*(replicates[:, base] for base in known)),
                    min(n[base] for base in known),
                )
            )
            new_cells.append((name, layer))
    if not columns:
        return tuple(cells), values, replicates, n
    return (
        (*cells, *new_cells),
        np.concatenate([values, [float(value) for value, _, _ in columns]]),
        np.concatenate([replicates, np.stack([column for _, column, _ in columns], axis=1)], axis=1),
        np.concatenate([n, [count for _, _, count in columns]]),
    )


def metrics_frame(cells: Sequence[Cell], values: Array, low: Array, high: Array, n: NDArray[np.int64]) -> pl.DataFrame:
    """The shared frame, in the registry's order and overall before layers, with null for whatever is not finite."""
    order = {name: place for place, name in enumerate(REGISTRY)}
    frame = pl.DataFrame(
        {
            "metric": [metric for metric, _ in cells],
            "layer": [layer for _, layer in cells],
            "value": values,
            "unit": [REGISTRY[metric].unit for metric, _ in cells],
            "ci_low": low,
            "ci_high": high,
            "n": n,
        },
        schema_overrides=METRICS.schema,
        strict=False,
    )
    frame = frame.with_columns(finite_or_null("value", "ci_low", "ci_high"))
    return frame.sort(pl.col("metric").replace_strict(order, return_dtype=pl.Int32), "layer", nulls_last=False)


def constants(values: Mapping[str, float | None]) -> pl.DataFrame:
    """Rows of quantities that are counted and not sampled: no layer, no interval, no n."""
    cells: list[Cell] = [(name, None) for name in values]
    nothing = np.full(len(cells), np.nan)
    known = np.array([np.nan if value is None else float(value) for value in values.values()], dtype=np.float64)
    frame = metrics_frame(cells, known, nothing, nothing, np.zeros(len(cells), np.int64))
    return frame.with_columns(n=pl.lit(None, dtype=pl.Int32))


def finite_or_null(*names: str) -> list[pl.Expr]:
    """Columns with null in place of NaN and infinity."""
    return [pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in names]
