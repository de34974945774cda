"""Positional lift and bias of the selection, with bands from resampled samples; shard by shard, in two passes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.summary import metrics_frame, summarise
from indexscope.analysis.metrics.sums import Cell, Sums, join, layered, per_sample
from indexscope.analysis.positional_bias import PositionalBiasSettings
from indexscope.analysis.positional_bias.bias import CAP, Parts, bias_parts
from indexscope.analysis.positional_bias.chance import floor
from indexscope.analysis.positional_bias.lift import LiftBands, draws
from indexscope.analysis.positional_bias.tables import RESULTS
from indexscope.analysis.positional_bias.tally import blocks, tally
from indexscope.analysis.positional_bias.totals import Totals, totals
from indexscope.analysis.statistics.resampling import Array, resample_counts
from indexscope.columns import empty

#: Raise it when any number of the analysis would change.
VERSION = 5

AXES = ("distance", "relative")


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: PositionalBiasSettings) -> dict[str, pl.DataFrame]:
    """Where the indexer selects and the attention goes, relative to chance.

    Args:
        features: Feature tables, read shard by shard; only ``positions`` and ``samples`` are read.
        settings: The bootstrap.

    Returns:
        lift: layer (null for all), axis, bin, label, lift with ci_low and ci_high, attention_lift with
        attention_ci_low and attention_ci_high, selections, expected, n (samples that reach the bin). lift is null for
        models without an indexer. Where fewer than 10 keys are expected to be selected, or to be left out, bands are
        at least as wide as the exact interval of a count.
        metrics and per_sample: those of the attention, and where there is a selection those of the selection. The
        values by sample of what is no ratio of sums are its linearisation: their weighted mean is the metric.
    """
    total, samples = totals(blocks(features))
    if not total:
        return empty(RESULTS)
    bands = {axis: LiftBands(axis, total[axis], settings) for axis in AXES}
    sums = _second_pass(features, total, bands, samples, settings)
    metrics = summarise(sums, settings)
    if total["parts"].expected.any():
        metrics = pl.concat([metrics, _floors(total["parts"], samples)])
    return {
        "lift": pl.concat([band.rows() for _, band in sorted(bands.items())]),
        "metrics": metrics,
        "per_sample": per_sample(sums),
    }


def _second_pass(
    features: Mapping[str, pl.DataFrame] | Sharded,
    total: Mapping[str, Totals],
    bands: Mapping[str, LiftBands],
    samples: int,
    settings: PositionalBiasSettings,
) -> Sums:
    drawn = list(resample_counts(samples, settings.resamples, settings.seed))
    counts = np.concatenate([block.astype(np.uint16) for block in drawn])
    ids, parts = [], []
    first = 0
    for block in blocks(features):
        if block.is_empty():
            continue
        own = tally(block, total["distance"].layers, total["distance"].bins)
        size = len(own.samples)
        for axis, band in bands.items():
            band.add(own.along(axis), draws(counts, first, size))
        first += size
        ids.append(own.samples)
        parts.append(bias_parts(own, total["parts"]))
    selected = bool(total["distance"].expected.any())
    kept = {name: _stacked(parts, name) for name in parts[0] if selected or name.startswith("attention")}
    found = layered(np.concatenate(ids), total["distance"].layers.tolist(), kept)
    listed = [tables["samples"] for tables in shards(features, ["samples"]) if "samples" in tables]
    return join([found], {"samples": pl.concat(listed)} if listed else {})


def _stacked(parts: list[Parts], name: str) -> tuple[Array, Array]:
    tops, bottoms = zip(*(part[name] for part in parts), strict=True)
    return np.concatenate(tops), np.concatenate(bottoms)


def _floors(total: Totals, samples: int) -> pl.DataFrame:
    """positional_bias_floor over all layers and in each: an expectation, and so without an interval."""
    layers = total.layers.tolist()
    values = [floor(total.expected.ravel(), total.variance.ravel(), CAP)]
    values += [floor(*cells, CAP) for cells in zip(total.expected, total.variance, strict=True)]
    cells: list[Cell] = [("positional_bias_floor", layer) for layer in (None, *layers)]
    nothing = np.full(len(cells), np.nan)
    n = np.where(np.isfinite(values), samples, 0).astype(np.int64)
    return metrics_frame(cells, np.array(values), nothing, nothing, n)
