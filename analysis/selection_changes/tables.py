"""From sums to the tables of what changed between two models' choices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from indexscope.analysis.metrics.summary import summarise
from indexscope.analysis.metrics.sums import Sums, layered
from indexscope.analysis.metrics.tables import PAIRED
from indexscope.analysis.selection_changes.sums import ALL, BY_ATTENTION, MEASURED, SelectionSums
from indexscope.analysis.settings import ComparisonSettings
from indexscope.analysis.statistics.resampling import Array
from indexscope.columns import Column, interval, of, places, table_of

_PLACE = of(pl.Int16, layer="Index of the layer, from 0; null for all layers together.")


def _interval(prefix: str, of_what: str) -> tuple[Column, ...]:
    return interval("as the value", f"{prefix}ci_low", f"{prefix}ci_high", "the", f" of {of_what}")


def _changed(name: str, done: str, chance: str) -> tuple[Column, ...]:
    stands_for = "each times the queries that its query stands for"
    return (
        *of(pl.Float64, "keys", **{name: f"Keys that the candidate {done}, {stands_for}."}),
        *of(pl.Float64, "share", **{f"{name}_share": f"Share of all keys {name} that lie in the bin."}),
        *of(pl.Float64, "keys", **{f"{name}_expected": f"The same if {chance}."}),
        *of(pl.Float64, "ratio", **{f"{name}_lift": f"Keys {name} relative to those expected; 1 is by chance."}),
        *_interval(f"{name}_", "the lift; null for single layers"),
    )


WHERE = table_of(
    "candidate, layer, bucket",
    "candidate layer bucket",
    _PLACE,
    places("bucket"),
    of(
        pl.Float64,
        "share",
        "queries",
        overlap="Mean Jaccard similarity of the candidate's selection with the baseline's.",
    ),
    _interval("", "the overlap; null for single layers"),
    of(
        pl.Float64,
        "share",
        "queries",
        by_chance="What a random selection of the candidate's size would have on average.",
        kept="Share of the baseline's selected keys that the candidate selects too.",
        added="Share of the candidate's selected keys that the baseline does not select.",
    ),
    of(pl.Float64, "queries", queries="Queries in effect that the sampled ones stand for."),
    of(
        pl.Float64,
        "share",
        mass_lost="Baseline's attention on dropped keys less that on added ones; of samples of the close-up.",
    ),
    _interval("mass_", "the attention lost; null for single layers"),
    of(pl.Int32, "samples", n="Samples that the overlap is of; null for single layers."),
    ordered=False,
)
BY = table_of(
    "candidate, layer, axis, bin",
    "candidate layer axis bin",
    _PLACE,
    of(
        pl.String,
        axis="What the bins divide: distance, relative position (tenths of the eligible keys), or kind of token "
        "(of samples of the close-up; kinds overlap).",
    ),
    places("bin", dtype=pl.Int16),
    of(pl.String, label="The bin in words."),
    of(
        pl.Float64,
        "keys",
        eligible="Eligible keys in the bin, each times the queries that its query stands for.",
        kept="Keys that both models select, weighted likewise.",
    ),
    of(pl.Float64, "share", kept_share="Share of all kept keys that lie in the bin."),
    _changed("dropped", "no longer selects", "as many of the baseline's keys were dropped at random at each query"),
    _changed("added", "selects anew", "as many of the keys that the baseline leaves out were added at random"),
    of(
        pl.Float64,
        "share",
        mass_dropped="Baseline's attention on dropped keys of the bin, mean over queries of samples of the close-up.",
        mass_added="The same on added keys.",
    ),
    of(pl.Int32, "samples", n="Samples in which keys of the bin were eligible; null for single layers."),
    ordered=False,
)
WORST = table_of(
    "candidate, list, rank",
    "candidate by rank",
    of(pl.String, by="The list: overlap (lowest first) or mass_lost (largest first)."),
    of(pl.Int16, rank="Place in the list, from 1."),
    places("sample"),
    of(pl.String, name="Document and offset of the sample."),
    of(
        pl.Float64,
        "share",
        overlap="The sample's overlap over all layers.",
        kept="Share of the baseline's selected keys that are kept in it.",
        mass_lost="Baseline's attention that is lost in it, net; null if it is not in the close-up.",
    ),
    of(pl.Int16, layer="The layer in which the sample's selections overlap least."),
    of(pl.Float64, "share", layer_overlap="Its overlap."),
    of(pl.Int32, "queries", queries="Sampled queries in effect, over all layers and groups."),
    of(pl.Boolean, excerpt="Whether the content analysis shows excerpts of the sample."),
    ordered=False,
)
COMPARED = {
    "metrics": PAIRED,
    "selection_changes_where": WHERE,
    "selection_changes_by": BY,
    "selection_changes_worst": WORST,
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


def changes_table(sums: SelectionSums, settings: ComparisonSettings) -> pl.DataFrame:
    """Every quantity over all layers and in each, in the form of ``metrics``, if it was measured."""
    return summarise(_by_sample(sums.by("sample", "layer"), "layer"), settings).filter(pl.col("n") > 0)


def where_table(sums: SelectionSums, settings: ComparisonSettings) -> pl.DataFrame:
    """Quantities by position bucket over all layers with intervals, and of every layer and bucket without."""
    buckets = summarise(_by_sample(sums.by("sample", "bucket"), "bucket"), settings).filter(pl.col("n") > 0)
    cells = sums.by("layer", "bucket")
    if cells.is_empty():
        return WHERE.empty().drop("candidate")
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


def worst_table(sums: SelectionSums, names: Mapping[int, str], excerpts: frozenset[int]) -> pl.DataFrame:
    """The samples whose selections overlap least, and those in which most attention is lost.

    Args:
        sums: The sums.
        names: Document and offset of each sample.
        excerpts: Samples of which the content analysis shows excerpts.
    """
    layers = sums.by("sample", "layer")
    if layers.is_empty():
        return WORST.empty().drop("candidate")
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
    columns = [name for name in WORST.schema if name != "candidate"]
    return pl.concat([frame.select(columns) for frame in found]).cast({name: WORST.schema[name] for name in columns})


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
