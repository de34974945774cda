"""Metrics at several context lengths from one extraction, and the length from which the selection loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.context_length import ContextLengthSettings
from indexscope.analysis.context_length.at_lengths import measured_at_lengths
from indexscope.analysis.context_length.by_sample import BySample
from indexscope.analysis.context_length.extent import Extent, extent
from indexscope.analysis.context_length.resampled import FOLLOWED, SKILL, Buckets, resampled
from indexscope.analysis.context_length.tables import LENGTHS, ONSET, RESULTS
from indexscope.analysis.metrics.metric import Derived
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.stream import Sharded
from indexscope.analysis.metrics.summary import finite_or_null, metrics_frame
from indexscope.analysis.metrics.sums import Cell
from indexscope.analysis.metrics.tables import AT, PER_SAMPLE, UP_TO
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.resampling import Array, interval, ratio
from indexscope.columns import empty

Estimates = tuple[Array, NDArray[np.int64]]
#: Raise it when any number of the analysis would change.
VERSION = 6


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: ContextLengthSettings) -> dict[str, pl.DataFrame]:
    """Metrics by context length, and from which length on the selection loses.

    A model that does not see the future computes the same for a query whatever follows it, so that the rows of buckets
    0 to m - 1 (queries t < L = 2^m - 1) are what a study with max_length L would have measured. Metrics of predicted
    tokens count predicted tokens: theirs are those of max_length L + 1, of which L tokens are predicted. It does not
    hold for models whose positions depend on the whole length (dynamic scaling of rotary positions); samples that are
    shorter than L come in with what they have.

    Args:
        features: Feature tables, read shard by shard: samples, tokens, indexer and attention.
        settings: The bootstrap.

    Returns:
        lengths, onset, by_sample (see there), metrics (skill_onset_length) and per_sample (always empty: an onset is
        no property of a sample); at_lengths and at_lengths_by_sample, at the lengths that the study asks for.
    """
    size = extent(features)
    if not size.samples or not size.longest:
        return empty(RESULTS)
    kept = BySample(size)
    found = resampled(features, size, settings, kept)
    losses = onset(found, size, settings)
    return {
        "lengths": lengths(found, size, settings),
        "onset": losses,
        "by_sample": kept.frame(),
        "metrics": _metrics(losses),
        "per_sample": PER_SAMPLE.empty(),
        **measured_at_lengths(features, settings),
    }


def _metrics(losses: pl.DataFrame) -> pl.DataFrame:
    rows = losses.filter(pl.col("metric") == SKILL)
    cells: list[Cell] = [("skill_onset_length", layer) for layer in rows["layer"]]
    values = rows["length"].cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)
    nothing = np.full(len(cells), np.nan)
    return metrics_frame(cells, values, nothing, nothing, rows["n"].to_numpy().astype(np.int64))


def lengths(found: Mapping[Cell, Buckets], size: Extent, settings: BootstrapSettings) -> pl.DataFrame:
    """Metrics over all queries before a length ("up to") and over its last power of two alone ("at").

    Returns:
        metric, length, layer (null for all), kind, value, ci_low, ci_high, n (samples with weight).
    """
    estimates = {
        (UP_TO, cell): (ratio(np.cumsum(own.top, 1), np.cumsum(own.bottom, 1)), own.up_to)
        for cell, own in found.items()
    }
    estimates |= {(AT, cell): (ratio(own.top, own.bottom), own.at) for cell, own in found.items()}
    estimates |= _derived(estimates)
    frames = [LENGTHS.empty()]
    for metric in (name for name in REGISTRY if any(name == own for _, (own, _) in estimates)):
        own = [(layer, kind) for kind, (name, layer) in estimates if name == metric]
        own.sort(key=lambda cell: (_place(cell[0]), cell[1] == AT))
        found_of = [estimates[kind, (metric, layer)] for layer, kind in own]
        values, n = np.concatenate([part for part, _ in found_of], axis=1), np.concatenate([n for _, n in found_of])
        low, high = interval(values[0], values[1:], n, settings.confidence, REGISTRY[metric].bounds)
        columns = {
            "metric": [metric] * len(n),
            "length": [size.length(bucket) for bucket in range(size.buckets)] * len(own),
            "layer": [layer for layer, _ in own for _ in range(size.buckets)],
            "kind": [kind for _, kind in own for _ in range(size.buckets)],
            **{"value": values[0], "ci_low": low, "ci_high": high, "n": n},
        }
        frames.append(pl.DataFrame(columns, schema_overrides=LENGTHS.schema, strict=False))
    rows = pl.concat(frames).with_columns(finite_or_null("value", "ci_low", "ci_high"))
    return rows.filter(pl.col("n") > 0)


def _place(layer: int | None) -> int:
    return -1 if layer is None else layer


def _derived(estimates: Mapping[tuple[str, Cell], Estimates]) -> dict[tuple[str, Cell], Estimates]:
    """Metrics that are functions of others, applied to estimates and resamples alike."""
    found: dict[tuple[str, Cell], Estimates] = {}
    places = {(kind, layer) for kind, (_, layer) in estimates}
    for name, metric in REGISTRY.items():
        if not isinstance(metric.rule, Derived):
            continue
        for kind, layer in places:
            bases = [estimates.get((kind, (base, layer))) for base in metric.rule.bases]
            known = [base for base in bases if base is not None]
            if len(known) == len(bases):
                values = metric.rule.function(*(value for value, _ in known))
                found[kind, (name, layer)] = values, np.min([n for _, n in known], axis=0)
    return found


def onset(found: Mapping[Cell, Buckets], size: Extent, settings: BootstrapSettings) -> pl.DataFrame:
    """The first length at which a metric is worse than in the first bucket in effect by what matters, and stays so.

    A bucket is compared with the first one in effect over the samples that reach it, which are paired. A loss counts
    where its interval lies above the metric's least margin, there and in every later bucket: with more samples the
    length tends to the one at which the loss outgrows the margin, and not to the first that is in effect.

    Returns:
        metric, layer (null for all), first_length (end of the first bucket in effect), longest (end of the last),
        length (end of the bucket in which the loss begins; null: not detected), loss (how much worse the last bucket
        is than the first), ci_low, ci_high, n (samples that reach the last bucket).
    """
    rows = []
    for metric in FOLLOWED:
        parts = REGISTRY[metric].bases or (metric,)
        for layer in (None, *sorted(layer for name, layer in found if name == parts[0] and layer is not None)):
            own = [found[part, layer] for part in parts if (part, layer) in found]
            if len(own) == len(parts) and layer in size.first:
                rows.append(_row(metric, layer, own, size, settings))
    known = [row for row in rows if row is not None]
    frame = pl.DataFrame(known, schema=ONSET.schema, orient="row")
    return frame.with_columns(finite_or_null("loss", "ci_low", "ci_high"))


def _row(
    metric: str, layer: int | None, parts: Sequence[Buckets], size: Extent, settings: BootstrapSettings
) -> tuple[object, ...] | None:
    declared = REGISTRY[metric]
    first = size.first[layer]
    paired = np.min([own.paired for own in parts], axis=0)
    reached = np.flatnonzero(paired > 0)
    if first >= size.buckets or not len(reached) or reached[-1] <= first:
        return None
    at = [ratio(own.top, own.bottom) for own in parts]
    before = [ratio(own.first_top, own.first_bottom) for own in parts]
    if isinstance(declared.rule, Derived):
        at, before = [declared.rule.function(*at)], [declared.rule.function(*before)]
    sign = -1.0 if declared.better == "higher" else 1.0
    loss = sign * (at[0] - before[0])
    low, high = interval(loss[0], loss[1:], paired, settings.confidence)
    last = int(reached[-1])
    length = None
    for bucket in range(last, first, -1):
        if not low[bucket] > (declared.least_margin or 0.0):  # NaN is not above it
            break
        length = size.length(bucket)
    ends = (size.length(first), size.length(last))
    return metric, layer, *ends, length, loss[0, last], low[last], high[last], int(paired[last])
