"""From sums to the tables of what changed between two models' choices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from analysis.choices.sums import ALL, BY_ATTENTION, MEASURED, ChoiceSums
from analysis.metrics.summary import METRICS, summarise
from analysis.metrics.sums import Sums, layered
from analysis.settings import ComparisonSettings
from analysis.statistics import Array

CHOICES = {"candidate": pl.String, **METRICS}
WHERE = {
    "candidate": pl.String,
    "layer": pl.Int16,
    "bucket": pl.Int8,
    "overlap": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "by_chance": pl.Float64,
    "kept": pl.Float64,
    "added": pl.Float64,
    "queries": pl.Float64,
    "mass_lost": pl.Float64,
    "mass_ci_low": pl.Float64,
    "mass_ci_high": pl.Float64,
    "n": pl.Int32,
}
WORST = {
    "candidate": pl.String,
    "by": pl.String,
    "rank": pl.Int16,
    "sample": pl.Int32,
    "name": pl.String,
    "overlap": pl.Float64,
    "kept": pl.Float64,
    "mass_lost": pl.Float64,
    "layer": pl.Int16,
    "layer_overlap": pl.Float64,
    "queries": pl.Int32,
    "excerpt": pl.Boolean,
}
SHOWN = 10
"""Samples that are listed of each kind of worst."""
OVERLAP, LOST = "selection_overlap_with_baseline", "selection_mass_lost"
_SHORT = {
    "overlap": OVERLAP,
    "by_chance": "selection_overlap_by_chance",
    "kept": "selection_kept",
    "added": "selection_added",
    "mass_lost": LOST,
}


def choices_table(sums: ChoiceSums, settings: ComparisonSettings) -> pl.DataFrame:
    """Every quantity over all layers and in each, in the form of ``metrics``, if it was measured."""
    return summarise(_by_sample(sums.by("sample", "layer"), "layer"), settings).filter(pl.col("n") > 0)


def where_table(sums: ChoiceSums, settings: ComparisonSettings) -> pl.DataFrame:
    """Quantities by position bucket over all layers with intervals, and of every layer and bucket without."""
    buckets = summarise(_by_sample(sums.by("sample", "bucket"), "bucket"), settings).filter(pl.col("n") > 0)
    cells = sums.by("layer", "bucket")
    if cells.is_empty():
        return pl.DataFrame(schema=WHERE).drop("candidate")
    whole = cells.group_by("bucket", maintain_order=True).agg(pl.exclude("layer", "bucket").sum())
    rows = []
    for frame in (whole.with_columns(layer=pl.lit(None, pl.Int16)), cells):
        means = {name: (pl.col(metric) / pl.col(MEASURED[metric])).fill_nan(None) for name, metric in _SHORT.items()}
        rows.append(frame.select("layer", "bucket", queries=pl.col(ALL), **means))
    found = pl.concat(rows)
    known = buckets.filter(pl.col("layer").is_not_null()).rename({"layer": "bucket"})
    for metric, names in ((OVERLAP, ("ci_low", "ci_high", "n")), (LOST, ("mass_ci_low", "mass_ci_high"))):
        own = known.filter(pl.col("metric") == metric).select(
            pl.col("bucket").cast(pl.Int8),
            **dict(zip(names, map(pl.col, ("ci_low", "ci_high", "n")), strict=False)),
            layer=pl.lit(None, pl.Int16),
        )
        found = found.join(own, on=["layer", "bucket"], how="left", nulls_equal=True, maintain_order="left")
    return found.sort("layer", "bucket", nulls_last=False)


def worst_table(sums: ChoiceSums, names: Mapping[int, str], excerpts: frozenset[int]) -> pl.DataFrame:
    """The samples whose selections overlap least, and those in which most attention is lost.

    Args:
        sums: The sums.
        names: Document and offset of each sample.
        excerpts: Samples of which the content analysis shows excerpts.
    """
    layers = sums.by("sample", "layer")
    if layers.is_empty():
        return pl.DataFrame(schema=WORST).drop("candidate")
    overlap = (pl.col(OVERLAP) / pl.col(ALL)).fill_nan(None)
    least = layers.with_columns(layer_overlap=overlap).sort("sample", "layer_overlap", "layer", nulls_last=True)
    lowest = least.group_by("sample", maintain_order=True).agg(pl.col("layer", "layer_overlap").first())
    whole = layers.group_by("sample", maintain_order=True).agg(pl.exclude("sample", "layer").sum())
    samples = whole.filter(pl.col(ALL) > 0).select(
        "sample",
        overlap=overlap,
        kept=pl.col("selection_kept") / pl.col(ALL),
        mass_lost=(pl.col(LOST) / pl.col(BY_ATTENTION)).fill_nan(None),
        queries=pl.col("queries").cast(pl.Int32),
        name=pl.col("sample").replace_strict(dict(names), default=None, return_dtype=pl.String),
        excerpt=pl.col("sample").is_in(sorted(excerpts)),
    )
    samples = samples.join(lowest, on="sample", maintain_order="left")
    found = []
    for by, order in (("overlap", pl.col("overlap")), ("mass_lost", -pl.col("mass_lost"))):
        rows = samples.filter(pl.col(by).is_not_null()).sort(order, "sample").head(SHOWN)
        found.append(rows.with_columns(by=pl.lit(by), rank=pl.int_range(1, rows.height + 1, dtype=pl.Int16)))
    columns = [name for name in WORST if name != "candidate"]
    return pl.concat([frame.select(columns) for frame in found]).cast({name: WORST[name] for name in columns})


def _by_sample(frame: pl.DataFrame, other: str) -> Sums:
    """Sums by sample over all values of another column and of each."""
    if frame.is_empty():
        return layered(np.empty(0, np.int64), [], {})
    samples, row = np.unique(frame["sample"].to_numpy(), return_inverse=True)
    others, column = np.unique(frame[other].to_numpy(), return_inverse=True)

    def spread(name: str) -> Array:
        found = np.zeros((len(samples), len(others)))
        found[row, column] = frame[name].to_numpy()
        return found

    weights = {name: spread(name) for name in dict.fromkeys(MEASURED.values())}
    parts = {metric: (spread(metric), weights[of]) for metric, of in MEASURED.items()}
    return layered(samples.astype(np.int64), others.tolist(), parts)
