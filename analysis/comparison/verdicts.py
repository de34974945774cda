"""What a comparison row says in one word: what is detected, within which margin, and among how many metrics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

from indexscope.analysis.comparison.budgets import OTHER_K, at_other_k
from indexscope.analysis.metrics.headline import HEADLINE
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.settings import ComparisonSettings
from indexscope.analysis.statistics.margins import ROUNDING, read_margin
from indexscope.analysis.statistics.resampling import Array

#: Effective samples below which nothing is judged but what is equal.
FEWEST = 8
#: Share of the samples that a loss may hide in: equivalence is said from the number on that shows one of them.
RARE = 0.1


def fewer(size: Any, than: int) -> Any:
    """Whether effective samples, to the nearest whole one, are fewer: eight of nearly equal length are eight.

    Args:
        size: A number, an array or an expression.
        than: Samples.
    """
    return size < than - 0.5


def fewest_for_equivalence(confidence: float) -> int:
    """Effective samples of which at least one is of the rare kind, with that probability.

    >>> fewest_for_equivalence(0.95)
    29
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - RARE))


def with_verdicts(rows: pl.DataFrame, settings: ComparisonSettings) -> pl.DataFrame:
    """Judge comparison rows.

    *better* (column): the interval leaves out zero, by more than rounding, and the metric has a direction; a counted
    quantity differs. Null otherwise, and for timings.

    *verdict*, the first that applies:
    *equal*: difference and interval are zero up to rounding, as no sample differs; counts are the same. With an
    interval,
    *equivalent*: the interval of coverage 1 - 2a (a = 1 - confidence) lies within the margin on both sides, which is
    two one-sided t tests at level a (TOST: Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15);
    *better*, *worse*, *different* (a metric without a direction): the interval of coverage 1 - a leaves out zero;
    *inconclusive*: neither. Of counted quantities: better, worse or different. Null without an interval and for
    timings, unless they are equal. *other k*: k differs, and the metric compares only where it does not; such a row is
    judged in no other way.

    Below FEWEST effective samples all that is not equal is inconclusive. Below ``fewest_for_equivalence`` nothing is
    equivalent or no worse: what a tenth of the samples loses would not show in one study of twenty and more.

    *no_worse*: equal, or the worse end of the 1 - 2a interval lies within the margin (non-inferiority at level a).

    The margin of a metric that the settings do not name is that of the metric of which it is a part (``margin_of``),
    else theirs for all, relative to the baseline, and no less than the metric's own ``least_margin``.

    *p_adjusted*: p after Benjamini and Hochberg (1995, Journal of the Royal Statistical Society B 57) within the
    family, and *corrected*: whether it is at most a. With it, at most a of what is called different is so by chance, on
    average. Families, for each candidate: the headline metrics (`indexscope.analysis.metrics.headline`) over all
    layers; all other metrics over all layers; and each metric's layers.

    Args:
        rows: candidate, metric, layer, baseline, difference, ci_low, ci_high, n and the columns of INFERRED.
        settings: Margins and confidence.

    Returns:
        The rows with the columns of JUDGED.
    """
    # Models are timed one after the other, with the machine's changing load between them, so timings are not judged.
    timed = pl.col("metric").is_in([name for name, metric in REGISTRY.items() if metric.table == "profile"])
    signs = {name: {"higher": 1, "lower": -1, "neither": 0}[metric.better] for name, metric in REGISTRY.items()}
    sign = pl.when(timed).then(0).otherwise(pl.col("metric").replace_strict(signs, return_dtype=pl.Int32))
    low, high = pl.col("ci_low"), pl.col("ci_high")
    counted = low.is_null() & pl.col("n").is_null()
    rounding = ROUNDING * pl.max_horizontal(pl.col("baseline").abs(), (pl.col("baseline") + pl.col("difference")).abs())
    size = pl.coalesce("n_effective", "n")
    few, blind = (~timed & fewer(size, least) for least in (FEWEST, fewest_for_equivalence(settings.confidence)))
    moved = (low > rounding) | (high < -rounding) | (counted & (pl.col("difference") != 0))
    agree = pl.all_horizontal(pl.col(name).abs().fill_null(0.0) <= rounding for name in ("ci_low", "ci_high"))
    close = agree & (pl.col("difference").abs() <= rounding)
    equal = pl.when(counted | timed).then(pl.col("difference") == 0).otherwise(close)
    margin = pl.col("margin")
    inside = {"no_less": pl.col("tost_low") > -margin, "no_more": pl.col("tost_high") < margin}
    word = (
        pl.when(equal)
        .then(pl.lit("equal"))
        .when(timed | pl.col("difference").is_null() | (low.is_null() & ~counted))
        .then(None)
        .when(few)
        .then(pl.lit("inconclusive"))
        .when(inside["no_less"] & inside["no_more"] & ~blind)
        .then(pl.lit("equivalent"))
        .when(pl.col("better"))
        .then(pl.lit("better"))
        .when(~pl.col("better"))
        .then(pl.lit("worse"))
        .when(moved)
        .then(pl.lit("different"))
        .otherwise(pl.lit("inconclusive"))
    )
    within = pl.when(sign > 0).then(inside["no_less"] & ~blind).when(sign < 0).then(inside["no_more"] & ~blind)
    other = at_other_k(rows)
    no_worse = pl.when(equal & ~counted & (sign != 0)).then(pl.lit(value=True)).otherwise(within)
    return (
        _adjusted(rows)
        .with_columns(
            margin=pl.when(pl.col("tost_low").is_not_null()).then(_margins(rows, settings)),
            better=pl.when((sign != 0) & moved & ~few.fill_null(value=False)).then(pl.col("difference") * sign > 0),
            corrected=pl.col("p_adjusted") <= 1 - settings.confidence,
        )
        .with_columns(verdict=word, no_worse=no_worse)
        .with_columns(
            pl.when(other).then(pl.lit(OTHER_K)).otherwise(pl.col("verdict")).alias("verdict"),
            *(pl.when(~other).then(pl.col(name)).alias(name) for name in ("better", "no_worse", "corrected")),
        )
    )


def _margins(rows: pl.DataFrame, settings: ComparisonSettings) -> pl.Series:
    """The margin of each row in the metric's own unit."""
    given = {name: read_margin(name, value) for name, value in settings.margins.items()}
    shared = {name: metric.margin_of for name, metric in REGISTRY.items() if metric.margin_of and name not in given}
    cell = ["candidate", "layer"]
    wholes = rows.select(*cell, whole="metric", of_whole="baseline").unique([*cell, "whole"], keep="first")
    placed = rows.select(*cell, "metric", "baseline", whole=pl.col("metric").replace(shared)).join(
        wholes, on=[*cell, "whole"], how="left", nulls_equal=True, maintain_order="left"
    )
    amount = {name: margin.amount for name, margin in given.items()}
    fixed = pl.col("whole").is_in([name for name, margin in given.items() if not margin.relative])
    own = pl.col("whole").replace_strict(amount, default=settings.margin, return_dtype=pl.Float64)
    # A part whose whole is unknown has nothing but its own value.
    size = pl.coalesce("of_whole", "baseline").abs()
    least = {name: metric.least_margin for name, metric in REGISTRY.items() if name not in given}
    floor = pl.col("whole").replace_strict(least, default=0.0, return_dtype=pl.Float64)
    return placed.select(pl.max_horizontal(own * pl.when(fixed).then(1.0).otherwise(size), floor)).to_series()


def _adjusted(rows: pl.DataFrame) -> pl.DataFrame:
    headline = pl.when(pl.col("metric").is_in(HEADLINE)).then(pl.lit("headline")).otherwise(pl.lit("other"))
    groups = rows.select(
        "candidate",
        group=pl.when(pl.col("layer").is_null()).then(headline).otherwise(pl.concat_str(pl.lit("each "), "metric")),
        tested=pl.col("p").is_finite(),
    ).with_row_index("row")
    adjusted = np.full(rows.height, np.nan)
    p = rows["p"].to_numpy()
    repeated = _repeated(rows)
    once = groups.filter("tested", ~pl.col("row").is_in(list(repeated)))
    for _, own in once.group_by("candidate", "group", maintain_order=True):
        places = own["row"].to_numpy()
        adjusted[places] = false_discovery(np.clip(p[places], 0.0, 1.0))
    for row, first in repeated.items():
        adjusted[row] = adjusted[first]
    return rows.with_columns(p_adjusted=pl.Series(adjusted, dtype=pl.Float64).fill_nan(None))


def false_discovery(p: Array) -> Array:
    """Adjusted p of as many tests by the false discovery rate (Benjamini and Hochberg 1995), same shape.

    >>> false_discovery(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.04, 0.04]
    """
    order = np.argsort(p)
    adjusted = p[order] * (len(p) / np.arange(1, len(p) + 1))
    found = np.empty_like(p)
    found[order] = np.minimum.accumulate(adjusted[::-1])[::-1]
    return np.minimum(found, 1.0)


def _repeated(rows: pl.DataFrame) -> dict[int, int]:
    """Rows of metrics whose difference is that of another metric, to the row of that one: they are one test."""
    several = [name for name, metric in REGISTRY.items() if metric.repeats]
    if not rows["metric"].is_in(several).any():
        return {}
    cells = list(rows.select("candidate", "layer", "metric").iter_rows())
    place = {cell: row for row, cell in enumerate(cells)}
    tests = rows.select("difference", "ci_low", "ci_high").to_numpy()
    sizes = rows.select(pl.col("baseline").abs().fill_null(0.0) + pl.col("difference").abs().fill_null(0.0)).to_series()
    found = {}
    for row, (candidate, layer, metric) in enumerate(cells):
        for other in REGISTRY[metric].repeats:
            first = place.get((candidate, layer, other))
            if (
                first is not None
                and (np.abs(tests[row] - tests[first]) <= ROUNDING * max(sizes[row], sizes[first])).all()
            ):
                found[row] = first
                break
    return found
