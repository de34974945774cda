"""Candidates against the baseline, paired by sample: the difference, its interval, and whether it is better."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.comparison.inference import (
    detectable,
    difference_interval,
    effect_sizes,
    effective,
    p_values,
)
from indexscope.analysis.comparison.tables import AT_LENGTHS, COMPARISONS, INFERRED, LENGTH_COMPARISONS
from indexscope.analysis.comparison.verdicts import FEWEST, fewer, with_verdicts
from indexscope.analysis.leaks import without_verdicts
from indexscope.analysis.metrics.headline import HEADLINE
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.summary import finite_or_null, with_derived
from indexscope.analysis.metrics.sums import Cell, Sums, cumulative, from_per_sample
from indexscope.analysis.metrics.tables import AT, METRICS, PER_SAMPLE, PREFIXED, UP_TO
from indexscope.analysis.metrics.tables import AT_LENGTHS as PREFIXES
from indexscope.analysis.settings import ComparisonSettings
from indexscope.analysis.statistics.margins import ROUNDING
from indexscope.analysis.statistics.resampling import Array, bootstrap_ratios, ratio, standard_error
from indexscope.columns import names
from indexscope.errors import IndexscopeError

Frames = Mapping[str, pl.DataFrame]
#: Raise it when the same results would give another comparison.
VERSION = 8
_COMPUTED = (
    *("metric", "layer", "baseline", "value", "difference", "ci_low", "ci_high", "n"),
    *names(INFERRED),
)


def combine(analyses: Mapping[str, Frames]) -> dict[str, pl.DataFrame]:
    """The ``metrics`` and ``per_sample`` frames of a model's analyses, one below the other; what ``compare`` takes.

    A metric that two analyses report (sparsity_cost is also a part of the efficiency score) is kept once. The same of
    ``at_lengths`` and ``at_lengths_by_sample``, which they are at the lengths that a study asks for.
    """
    parts = {
        name: _once(table.empty(), [own[name] for own in analyses.values() if name in own], ["length"])
        for name, table in PREFIXED.items()
        if any(name in own for own in analyses.values())
    }
    return parts | {
        "metrics": _once(
            METRICS.empty(), [own["metrics"].select(*METRICS.schema) for own in analyses.values() if "metrics" in own]
        ),
        "per_sample": _once(
            PER_SAMPLE.empty(), [own["per_sample"] for own in analyses.values() if "per_sample" in own]
        ),
    }


def _once(empty: pl.DataFrame, frames: Sequence[pl.DataFrame], more: Sequence[str] = ()) -> pl.DataFrame:
    """The frames one below the other; of a metric and layer that several have, the first one's rows."""
    key = ["metric", "layer", *more]
    kept, seen = [empty], empty.select(key)
    for frame in frames:
        cells = frame.select(key).unique()
        if cells.join(seen, on=key, how="semi", nulls_equal=True).height:
            frame = frame.join(seen, on=key, how="anti", nulls_equal=True, maintain_order="left")
        kept.append(frame)
        seen = pl.concat([seen, cells]).unique()
    return pl.concat(kept)


def compare(
    models: Mapping[str, Frames], baseline: str, settings: ComparisonSettings, leaking: Collection[str] = ()
) -> pl.DataFrame:
    """Compare every other model with the baseline.

    Metrics with values by sample are differences of ratio estimates; both models share the resampled samples, so what
    is hard or easy about a sample cancels. Their interval is a bootstrap over samples; what differs by no more than a
    millionth of the value is rounding, and equal. Counted quantities (parameters, FLOPs) differ or do not, and carry no
    interval. Timings are not paired: their interval runs from the most to the least favourable pairing of the repeats'
    5th to 95th percentile, and they are not judged.

    Args:
        models: Model name to its frames ``metrics`` and ``per_sample`` (see ``combine``). A mapping that reads a model
            when it is asked for holds the baseline and one candidate at a time.
        baseline: Name of the baseline.
        settings: The bootstrap, and the margins.
        leaking: Names of models that leak (`indexscope.analysis.leaks`): whatever is compared with one has the verdict
            "leaks", and is neither better nor worse.

    Returns:
        candidate, metric, layer (null for all), unit, baseline, value, difference (value - baseline), ci_low, ci_high,
        n (samples that both models have weight for; repeats for timings; null for counts); better, verdict, no_worse,
        margin, p_adjusted and corrected (see ``with_verdicts``); standard_error, effect, p, mde (see
        ``indexscope.analysis.comparison.inference``), tost_low and tost_high (the interval of coverage 1 - 2a, which
        the margin is held against). A metric that only one of the two has is listed with null for the other.

    Raises:
        IndexscopeError: The baseline is not among the models, or a candidate was measured on other samples.
    """
    if baseline not in models:
        raise IndexscopeError("comparison", f"there is no model named {baseline}", f"choose one of {', '.join(models)}")
    frames = [COMPARISONS.empty()]
    base = models[baseline]
    for name in models:
        if name == baseline:
            continue
        own = models[name]
        first, second = from_per_sample(base["per_sample"]), from_per_sample(own["per_sample"])
        sampled = paired(first, second, f"comparison of {name} with {baseline}", settings)
        counted = _unpaired(base["metrics"], own["metrics"], sampled)
        rows = _listed(pl.concat([sampled, counted], how="diagonal"), name)
        frames.append(with_verdicts(rows, settings).select(*COMPARISONS.schema))
    return without_verdicts(pl.concat(frames), baseline, leaking)


def compare_lengths(
    models: Mapping[str, pl.DataFrame], baseline: str, settings: ComparisonSettings, leaking: Collection[str] = ()
) -> pl.DataFrame:
    """Compare the headline metrics of every other model with the baseline's, by context length.

    Args:
        models: Model name to the frame ``by_sample`` of its analysis by length.
        baseline: Name of the baseline.
        settings: The bootstrap, and the margins.
        leaking: As for ``compare``.

    Returns:
        The columns of ``compare``, with length (tokens) and kind ("up to" the length, or "at" it: the queries of its
        last power of two alone) in place of layer. A metric's lengths of one kind are a family of their own.
    """
    frames = [LENGTH_COMPARISONS.empty()]
    ends = {
        int(bucket): int(length)
        for own in models.values()
        for bucket, length in own.select("bucket", "length").unique().iter_rows()
    }
    places = pl.col("layer").replace_strict(ends, default=None, return_dtype=pl.Int32).cast(pl.Int32)
    for name in models:
        if name == baseline:
            continue
        for kind, gather in ((UP_TO, cumulative), (AT, lambda sums: sums)):
            parts = [from_per_sample(own.rename({"bucket": "layer"})) for own in (models[baseline], models[name])]
            samples = np.union1d(*(part.samples for part in parts))
            first, second = (gather(part.onto(samples, part.cells)) for part in parts)
            rows = paired(first, second, f"comparison of {name} with {baseline} by length", settings)
            rows = _listed(rows, name).with_columns(length=places, kind=pl.lit(kind))
            # Verdicts first: they ask what else there is of a length, such as whether the models' k differ there.
            rows = with_verdicts(rows, settings).filter(pl.col("metric").is_in(HEADLINE))
            frames.append(rows.select(*LENGTH_COMPARISONS.schema))
    return without_verdicts(pl.concat(frames), baseline, leaking)


def compare_at_lengths(
    models: Mapping[str, Frames], baseline: str, settings: ComparisonSettings, leaking: Collection[str] = ()
) -> pl.DataFrame:
    """Compare every other model with the baseline at each length that the study asks for, as `compare` does.

    Args:
        models: Model name to its frames ``at_lengths`` and ``at_lengths_by_sample`` (see `combine`).
        baseline: Name of the baseline.
        settings: The bootstrap, and the margins.
        leaking: As for ``compare``.

    Returns:
        The columns of ``compare`` and length (tokens). Every length is corrected for many comparisons by itself.
    """
    frames = [AT_LENGTHS.empty()]
    asked = models[baseline].get("at_lengths", AT_LENGTHS.empty())["length"].unique().sort()
    for length in asked.to_list():
        own = _AtLength(models, length)
        rows = compare(own, baseline, settings, leaking).with_columns(length=pl.lit(length, pl.Int32))
        frames.append(rows.select(*AT_LENGTHS.schema))
    return pl.concat(frames)


class _AtLength(Mapping[str, Frames]):
    """What `compare` takes of each model, at one length; read when it is asked for."""

    def __init__(self, models: Mapping[str, Frames], length: int) -> None:
        self._models, self._at = models, pl.col("length") == length

    def __getitem__(self, name: str) -> Frames:
        own = self._models[name]
        return {whole: own[part].filter(self._at).drop("length") for part, whole in PREFIXES.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


def paired(first: Sums, second: Sums, where: str, settings: ComparisonSettings) -> pl.DataFrame:
    """Differences of two models with values by sample, and what can be inferred from the resamples.

    Args:
        first: The baseline's sums.
        second: The candidate's, of the same samples.
        where: What is compared, for an error.
        settings: The bootstrap.

    Returns:
        metric, layer, baseline, value, difference, ci_low, ci_high, n and the columns of INFERRED, a row for each cell
        of either; NaN where something is unknown.

    Raises:
        IndexscopeError: They were measured on different samples.
    """
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
    replicates, n = other.replicates - one.replicates, other.n
    sizes = _effective(first, second, other.cells)
    low, high = difference_interval(difference, replicates, sizes, settings.confidence)
    # Two one-sided tests at level 1 - confidence, each of which an interval twice as uncertain answers.
    tost_low, tost_high = difference_interval(difference, replicates, sizes, 2 * settings.confidence - 1)
    error = standard_error(replicates, sizes)
    rounding = ROUNDING * np.maximum(np.abs(one.values), np.abs(other.values))
    return pl.DataFrame(
        {
            "metric": [metric for metric, _ in other.cells],
            "layer": [layer for _, layer in other.cells],
            "baseline": one.values,
            "value": other.values,
            "difference": difference,
            "ci_low": low,
            "ci_high": high,
            "n": n,
            "n_effective": sizes,
            "standard_error": np.where(np.isnan(difference), np.nan, error),
            "effect": effect_sizes(difference, error, sizes, rounding),
            "p": np.where(fewer(sizes, FEWEST), np.nan, p_values(difference, replicates, sizes, rounding)),
            "mde": np.where(np.isnan(difference), np.nan, detectable(error, sizes, settings.confidence)),
            "tost_low": tost_low,
            "tost_high": tost_high,
        },
        schema_overrides=COMPARISONS.schema,
        strict=False,
    ).select(_COMPUTED)


def _effective(first: Sums, second: Sums, cells: Sequence[Cell]) -> Array:
    """Effective samples of each cell, of the model that has fewer; of a derived metric the fewest of its bases."""
    common = (first.denominator > 0) & (second.denominator > 0)
    kept = np.minimum(*(effective(np.where(common, own.denominator, 0.0)) for own in (first, second)))
    sizes = dict(zip(first.cells, kept.tolist(), strict=True))
    for metric, layer in cells[len(first.cells) :]:
        sizes[metric, layer] = min(sizes[base, layer] for base in REGISTRY[metric].bases)
    return np.array([sizes[cell] for cell in cells], dtype=np.float64)


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


def _listed(rows: pl.DataFrame, candidate: str) -> pl.DataFrame:
    """Name and unit of each row, in the registry's order, without rows that are null for both."""
    order = {name: place for place, name in enumerate(REGISTRY)}
    units = {name: metric.unit for name, metric in REGISTRY.items()}
    numbers = [name for name, kind in rows.schema.items() if kind == pl.Float64]
    return (
        rows.with_columns(finite_or_null(*numbers))
        .filter(pl.col("baseline").is_not_null() | pl.col("value").is_not_null())
        .with_columns(candidate=pl.lit(candidate), unit=pl.col("metric").replace_strict(units, return_dtype=pl.String))
        .sort(pl.col("metric").replace_strict(order, return_dtype=pl.Int32), "layer", nulls_last=False)
    )
