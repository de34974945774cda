"""From the sums of dumps held against the baseline to metrics with intervals, and to where they part."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from indexscope.analysis.metrics.summary import finite_or_null, summarise
from indexscope.analysis.metrics.sums import Sums, layered
from indexscope.analysis.parity.tables import BY_DISTANCE, COMPARED, WHERE
from indexscope.analysis.positional_bias.lift import label
from indexscope.analysis.settings import ComparisonSettings
from indexscope.analysis.statistics.resampling import Array

Frames = Mapping[str, pl.DataFrame]
#: Raise it when the same sums would give other rows.
VERSION = 2
#: What is divided by what.
RATES: Mapping[str, tuple[pl.Expr, pl.Expr]] = {
    name: (top, bottom)
    for name, top, bottom in (
        ("rows_identical", pl.col("identical"), pl.col("in_effect")),
        ("rows_identical_up_to_ties", pl.col("alike"), pl.col("scored")),
        ("selection_overlap", pl.col("overlap"), pl.col("in_effect")),
        ("missing_keys", pl.col("missing"), pl.col("in_effect")),
        ("extra_keys", pl.col("extra"), pl.col("in_effect")),
        ("differences_from_ties", pl.col("tied"), pl.col("differing")),
        ("differing_key_gap", pl.col("gap"), pl.col("differing")),
        ("dumped_recall", pl.col("recall"), pl.col("attended")),
        ("dumped_recall_lost", pl.col("baseline_recall") - pl.col("recall"), pl.col("attended")),
        ("dumped_evidence_selected", pl.col("evidence"), pl.col("asked")),
        ("dumped_evidence_lost", pl.col("baseline_evidence") - pl.col("evidence"), pl.col("asked")),
        ("rows_incomplete", pl.col("incomplete"), pl.col("queries") - pl.col("in_effect")),
        ("future_keys", pl.col("future"), pl.col("queries")),
        ("out_of_range_keys", pl.col("outside"), pl.col("queries")),
        ("repeated_keys", pl.col("repeated"), pl.col("queries")),
    )
}


def run(dumps: Mapping[str, Frames], settings: ComparisonSettings) -> dict[str, pl.DataFrame]:
    """Put the samples of each dump together.

    Args:
        dumps: Name of each candidate that is a dump, to its frames ``counted``, ``distances`` and ``matched``.
        settings: The bootstrap.

    Returns:
        metrics: of every candidate, see docs/metrics.md; parity_where, parity_distances and parity_samples as
        docs/storage.md has them.
    """
    found: dict[str, list[pl.DataFrame]] = {name: [table.empty()] for name, table in COMPARED.items()}
    for name, frames in dumps.items():
        own = {
            "metrics": summarise(sums_by(frames["counted"], "layer"), settings).filter(pl.col("n") > 0),
            "parity_where": _where(frames["counted"], settings),
            "parity_distances": _distances(frames["distances"]),
            "parity_samples": frames["matched"].sort("sample"),
        }
        for table, frame in own.items():
            found[table].append(COMPARED[table].shaped(frame.with_columns(candidate=pl.lit(name))))
    return {table: pl.concat(frames) for table, frames in found.items()}


def sums_by(counted: pl.DataFrame, column: str, names: tuple[str, ...] = tuple(RATES)) -> Sums:
    """Sums of some metrics by sample, over all values of a column and for each of them.

    Args:
        counted: The table ``counted``.
        column: layer or bucket.
        names: The metrics.
    """
    rates = {f"{name} {part}": RATES[name][place] for name in names for place, part in enumerate(("top", "bottom"))}
    rows = counted.group_by("sample", column).agg(**{name: rate.sum() for name, rate in rates.items()})
    rows = rows.sort("sample", column)
    samples, place = np.unique(rows["sample"].to_numpy(), return_inverse=True)
    others, across = np.unique(rows[column].to_numpy(), return_inverse=True)

    def spread(name: str) -> Array:
        cells = np.zeros((len(samples), len(others)))
        cells[place, across] = rows[name].to_numpy()
        return cells

    parts = {name: (spread(f"{name} top"), spread(f"{name} bottom")) for name in names}
    return layered(samples.astype(np.int64), others.tolist(), parts)


def _where(counted: pl.DataFrame, settings: ComparisonSettings) -> pl.DataFrame:
    """By layer and bucket, and by bucket over all layers with intervals."""
    columns = {
        "rows_identical": "rows_identical",
        "rows_alike": "rows_identical_up_to_ties",
        "overlap": "selection_overlap",
    }
    values = {name: RATES[metric][0].sum() / RATES[metric][1].sum() for name, metric in columns.items()}
    frames = []
    for keys in (("bucket",), ("layer", "bucket")):
        rows = counted.group_by(keys).agg(queries=pl.col("in_effect").sum(), **values)
        frames.append(rows.with_columns(layer=pl.col("layer") if "layer" in keys else pl.lit(None, pl.Int16)))
    found = pl.concat([frame.select("layer", "bucket", "queries", *values) for frame in frames])
    found = found.filter(pl.col("queries") > 0).with_columns(finite_or_null(*values))
    whole = summarise(sums_by(counted, "bucket", ("rows_identical",)), settings).filter(pl.col("layer").is_not_null())
    known = whole.select(
        layer=pl.lit(None, pl.Int16),
        bucket=pl.col("layer").cast(pl.Int8),
        rows_ci_low="ci_low",
        rows_ci_high="ci_high",
        n="n",
    )
    found = found.join(known, on=["layer", "bucket"], how="left", nulls_equal=True)
    return WHERE.shaped(found.with_columns(candidate=pl.lit(""))).sort("layer", "bucket", nulls_last=False)


def _distances(distances: pl.DataFrame) -> pl.DataFrame:
    """By distance over all layers, and in each."""
    names = ("selected", "missing", "extra")
    frames = []
    for keys in (("bin",), ("layer", "bin")):
        rows = distances.group_by(keys).agg(pl.col(*names).sum())
        frames.append(rows.with_columns(layer=pl.col("layer") if "layer" in keys else pl.lit(None, pl.Int16)))
    found = pl.concat([frame.select("layer", "bin", *names) for frame in frames])
    words = {place: label("distance", place) for place in found["bin"].unique().to_list()}
    found = found.with_columns(
        label=pl.col("bin").replace_strict(words, default=None, return_dtype=pl.String),
        missing_share=pl.col("missing") / pl.col("selected"),
        candidate=pl.lit(""),
    )
    found = found.with_columns(finite_or_null("missing_share"))
    return BY_DISTANCE.shaped(found).sort("layer", "bin", nulls_last=False)
