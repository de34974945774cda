"""Every candidate's evidence and answers beside the baseline's, paired by sample."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.comparison.compare import paired
from indexscope.analysis.evidence.run import groups
from indexscope.analysis.evidence_changes.tables import CHANGES, COMPARED
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.metrics.sums import Sums, from_per_sample
from indexscope.analysis.settings import ComparisonSettings
from indexscope.columns import empty
from indexscope.errors import IndexscopeError

BY_SAMPLE = "evidence.by_sample"
#: Raise it when the same answers would give other rows.
VERSION = 1


def run(
    models: Mapping[str, Mapping[str, pl.DataFrame]], baseline: str, settings: ComparisonSettings
) -> dict[str, pl.DataFrame]:
    """Compare the answers of every other model with the baseline's.

    Args:
        models: Model name to what its analysis of evidence made: ``evidence.by_sample``.
        baseline: Name of the baseline.
        settings: The bootstrap.

    Returns:
        evidence_changes: each metric of each candidate over all layers, by kind, length and depth: baseline, value,
        difference with ci_low and ci_high, n (samples that both have weight for), better and worse (samples in which
        the candidate is).

    Raises:
        IndexscopeError: A candidate answered other samples than the baseline.
    """
    first = models[baseline].get(BY_SAMPLE)
    if first is None or first.is_empty():
        return empty(COMPARED)
    frames = [CHANGES.empty()]
    for name in models:
        second = models[name].get(BY_SAMPLE)
        if name != baseline and second is not None and second.height:
            frames.append(_changes(first, second, name, settings))
    return {"evidence_changes": pl.concat(frames)}


def _changes(first: pl.DataFrame, second: pl.DataFrame, name: str, settings: ComparisonSettings) -> pl.DataFrame:
    places = ["sample", "kind", "length", "depth"]
    samples, others = (frame.select(places).unique("sample").sort("sample") for frame in (first, second))
    where = f"answers of {name} with those of the baseline"
    if not samples.equals(others):
        reason = f"the two models answered different samples ({samples.height} and {others.height})"
        raise IndexscopeError(where, reason, "extract both with the same dataset settings")
    whole = [_sums(frame) for frame in (first, second)]
    found = list(groups(samples))
    parts = [_grouped(sums, [of for _, of in found]) for sums in whole]
    rows = paired(parts[0], parts[1], where, settings)
    rows = rows.filter(pl.col("n") > 0)
    keys = [found[group][0] for group in rows["layer"].to_list()]
    counts = _counts(first, second, samples)
    frame = rows.with_columns(
        candidate=pl.lit(name),
        kind=pl.Series([key["kind"] for key in keys], dtype=pl.String),
        length=pl.Series([key["length"] for key in keys], dtype=pl.Int32),
        depth=pl.Series([key["depth"] for key in keys], dtype=pl.Float64),
    )
    tallies = [
        counts.filter((pl.col("metric") == metric) & pl.Series(found[group][1]).gather(counts["row"]))
        for metric, group in rows.select("metric", "layer").iter_rows()
    ]
    directed = [REGISTRY[metric].better != "neither" for metric in rows["metric"].to_list()]
    frame = frame.with_columns(
        **{
            side: pl.Series(
                [int(own[side].sum()) if told else None for own, told in zip(tallies, directed, strict=True)],
                dtype=pl.Int32,
            )
            for side in ("better", "worse")
        }
    )
    return CHANGES.shaped(frame.with_columns(finite_or_null("baseline", "value", "difference", "ci_low", "ci_high")))


def _sums(frame: pl.DataFrame) -> Sums:
    """Sums over all layers of all samples."""
    plain = frame.select("metric", "sample", "value", "weight", layer=pl.lit(None, pl.Int16))
    return from_per_sample(plain)


def _grouped(sums: Sums, masks: list[NDArray[np.bool_]]) -> Sums:
    """The sums of each group of samples; a cell's second part is the group's number."""
    cells = tuple((metric, number) for number in range(len(masks)) for metric, _ in sums.cells)
    top, bottom = (
        np.concatenate([part * mask[:, None] for mask in masks], axis=1) for part in (sums.numerator, sums.denominator)
    )
    return Sums(sums.samples, cells, top, bottom)


def _counts(first: pl.DataFrame, second: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """Whether the candidate is better or worse in each sample, by metric; row is the sample's place."""
    both = first.select("metric", "sample", before="value").join(
        second.select("metric", "sample", "value"), on=["metric", "sample"]
    )
    sign = {name: {"higher": 1.0, "lower": -1.0}.get(REGISTRY[name].better, 0.0) for name in both["metric"].unique()}
    gain = (pl.col("value") - pl.col("before")) * pl.col("metric").replace_strict(sign, return_dtype=pl.Float64)
    placed = both.join(samples.select("sample").with_row_index("row"), on="sample")
    return placed.select("metric", "row", better=gain > 0, worse=gain < 0)
