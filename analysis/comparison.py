"""Candidates against the baseline, paired by sample: the difference, its interval, and whether it is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.metrics.registry import REGISTRY
from analysis.metrics.summary import METRICS, finite_or_null, with_derived
from analysis.metrics.sums import PER_SAMPLE, Cell, Sums, from_per_sample
from analysis.settings import ComparisonSettings
from analysis.statistics import Array, bootstrap_ratios, interval, ratio
from indexscope.errors import IndexscopeError

Frames = Mapping[str, pl.DataFrame]
# Features are means in single precision: smaller relative differences are arithmetic, not models.
ROUNDING = 1e-6
COMPARISONS = {
    "candidate": pl.String,
    "metric": pl.String,
    "layer": pl.Int16,
    "unit": pl.String,
    "baseline": pl.Float64,
    "value": pl.Float64,
    "difference": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n": pl.Int32,
    "better": pl.Boolean,
}
_COMPUTED = ("metric", "layer", "baseline", "value", "difference", "ci_low", "ci_high", "n")


def combine(analyses: Mapping[str, Frames]) -> dict[str, pl.DataFrame]:
    """The ``metrics`` and ``per_sample`` frames of a model's analyses, one below the other; what ``compare`` takes.

    A metric that two analyses report (sparsity_cost is also a part of the efficiency score) is kept once.
    """
    return {
        "metrics": _once(
            pl.DataFrame(schema=METRICS), [own["metrics"] for own in analyses.values() if "metrics" in own]
        ),
        "per_sample": _once(
            pl.DataFrame(schema=PER_SAMPLE), [own["per_sample"] for own in analyses.values() if "per_sample" in own]
        ),
    }


def _once(empty: pl.DataFrame, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The frames one below the other; of a metric and layer that several have, the first one's rows."""
    kept, seen = [empty], empty.select("metric", "layer")
    for frame in frames:
        cells = frame.select("metric", "layer").unique()
        if cells.join(seen, on=["metric", "layer"], how="semi", nulls_equal=True).height:
            frame = frame.join(seen, on=["metric", "layer"], how="anti", nulls_equal=True, maintain_order="left")
        kept.append(frame)
        seen = pl.concat([seen, cells]).unique()
    return pl.concat(kept)


def compare(models: Mapping[str, Frames], baseline: str, settings: ComparisonSettings) -> pl.DataFrame:
    """Compare every other model with the baseline.

    Metrics with values by sample are differences of ratio estimates; both models share the resampled samples, so what
    is hard or easy about a sample cancels. Their interval is a bootstrap over samples, a millionth of the value wider
    for rounding, and ``better`` is null where it contains 0 or the metric has no direction. Counted quantities
    (parameters, FLOPs) differ or do not, and carry no interval. Timings are not paired: their interval runs from the
    most to the least favourable pairing of the repeats' 5th to 95th percentile, and ``better`` is null where the two
    ranges touch.

    Args:
        models: Model name to its frames ``metrics`` and ``per_sample`` (see ``combine``). A mapping that reads a model
            when it is asked for holds the baseline and one candidate at a time.
        baseline: Name of the baseline.
        settings: The bootstrap.

    Returns:
        candidate, metric, layer (null for all), unit, baseline, value, difference (value - baseline), ci_low, ci_high,
        n (samples that both models have weight for; repeats for timings; null for counts), better. A metric that only
        one of the two has is listed with null for the other.

    Raises:
        IndexscopeError: The baseline is not among the models, or a candidate was measured on other samples.
    """
    if baseline not in models:
        raise IndexscopeError("comparison", f"there is no model named {baseline}", f"choose one of {', '.join(models)}")
    frames = [pl.DataFrame(schema=COMPARISONS)]
    base = models[baseline]
    for name in models:
        if name == baseline:
            continue
        own = models[name]
        paired = _paired(base, own, f"comparison of {name} with {baseline}", settings)
        counted = _unpaired(base["metrics"], own["metrics"], paired)
        frames.append(_judged(pl.concat([paired, counted]), name))
    return pl.concat(frames)


def _paired(base: Frames, own: Frames, where: str, settings: ComparisonSettings) -> pl.DataFrame:
    first, second = from_per_sample(base["per_sample"]), from_per_sample(own["per_sample"])
    if len(first.samples) and len(second.samples) and not np.array_equal(first.samples, second.samples):
        unmatched = np.setxor1d(first.samples, second.samples)
        raise IndexscopeError(
            where,
            f"the two models were measured on different samples ({len(first.samples)} and {len(second.samples)}; "
            f"{len(unmatched)} unmatched, the first is sample {unmatched[0]})",
            "extract both with the same dataset settings",
        )
    samples, cells = np.union1d(first.samples, second.samples), list(dict.fromkeys(chain(first.cells, second.cells)))
    first, second = first.onto(samples, cells), second.onto(samples, cells)
    both = ((first.denominator > 0) & (second.denominator > 0)).sum(axis=0)
    one, other = _estimate(first, both, settings), _estimate(second, both, settings)
    difference = other.values - one.values
    low, high = interval(difference, other.replicates - one.replicates, other.n, settings.confidence)
    rounding = ROUNDING * np.maximum(np.abs(one.values), np.abs(other.values))
    return pl.DataFrame(
        {
            "metric": [metric for metric, _ in other.cells],
            "layer": [layer for _, layer in other.cells],
            "baseline": one.values,
            "value": other.values,
            "difference": difference,
            "ci_low": low - rounding,
            "ci_high": high + rounding,
            "n": other.n,
        },
        schema_overrides=COMPARISONS,
        strict=False,
    ).select(_COMPUTED)


@dataclass(frozen=True)
class _Estimates:
    """One model's estimates and replicates; n counts the samples that the pair has in common."""

    cells: tuple[Cell, ...]
    values: Array
    replicates: Array
    n: NDArray[np.int64]


def _estimate(sums: Sums, common: NDArray[np.int64], settings: ComparisonSettings) -> _Estimates:
    values = ratio(sums.numerator.sum(axis=0), sums.denominator.sum(axis=0))
    # The seed and the number of samples are the same for both models, and so are the samples drawn.
    replicates = bootstrap_ratios(sums.numerator, sums.denominator, settings.resamples, settings.seed)
    return _Estimates(*with_derived(sums.cells, values, replicates, common))


def _unpaired(base: pl.DataFrame, own: pl.DataFrame, paired: pl.DataFrame) -> pl.DataFrame:
    """Quantities without values by sample: counts, FLOPs and timings."""
    timed = pl.col("metric").is_in([name for name, metric in REGISTRY.items() if metric.table == "profile"])
    rows = base.join(own, on=["metric", "layer"], how="full", coalesce=True, nulls_equal=True, suffix="_own")
    return rows.join(paired, on=["metric", "layer"], how="anti", nulls_equal=True).select(
        "metric",
        "layer",
        baseline=pl.col("value"),
        value=pl.col("value_own"),
        difference=pl.col("value_own") - pl.col("value"),
        ci_low=pl.when(timed).then(pl.col("ci_low_own") - pl.col("ci_high")),
        ci_high=pl.when(timed).then(pl.col("ci_high_own") - pl.col("ci_low")),
        n=pl.when(timed).then(pl.min_horizontal("n", "n_own")),
    )


def _judged(rows: pl.DataFrame, candidate: str) -> pl.DataFrame:
    """Name, unit and verdict of each row, in the registry's order, without rows that are null for both."""
    order = {name: place for place, name in enumerate(REGISTRY)}
    # Models are timed one after the other, with the machine's changing load between them, so timings are not judged.
    signs = {
        name: 0 if metric.table == "profile" else {"higher": 1, "lower": -1, "neither": 0}[metric.better]
        for name, metric in REGISTRY.items()
    }
    units = {name: metric.unit for name, metric in REGISTRY.items()}
    sign = pl.col("metric").replace_strict(signs, return_dtype=pl.Int32)
    counted = pl.col("ci_low").is_null() & pl.col("n").is_null()
    rows = rows.with_columns(finite_or_null("baseline", "value", "difference", "ci_low", "ci_high"))
    return (
        rows.filter(pl.col("baseline").is_not_null() | pl.col("value").is_not_null())
        .with_columns(
            candidate=pl.lit(candidate),
            unit=pl.col("metric").replace_strict(units, return_dtype=pl.String),
            better=pl.when(sign == 0)
            .then(None)
            .when(pl.col("ci_low") > 0)
            .then(sign > 0)
            .when(pl.col("ci_high") < 0)
            .then(sign < 0)
            .when(counted & (pl.col("difference") != 0))
            .then(pl.col("difference") * sign > 0),
        )
        .sort(pl.col("metric").replace_strict(order, return_dtype=pl.Int32), "layer", nulls_last=False)
        .select(*COMPARISONS)
    )
