"""Claims about p-values, effect sizes, detectable effects and equivalence, against closed forms and by simulation."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from indexscope.analysis.comparison.compare import paired
from indexscope.analysis.comparison.inference import (
    detectable,
    difference_interval,
    effect_sizes,
    effective,
    p_values,
)
from indexscope.analysis.comparison.verdicts import with_verdicts
from indexscope.analysis.metrics.sums import Sums
from indexscope.analysis.settings import ComparisonSettings
from indexscope.analysis.statistics.resampling import bootstrap_ratios, standard_error

Array = NDArray[np.float64]
STUDIES = 1000
SETTINGS = ComparisonSettings(resamples=600, margins={"nll": 0.1})


def resampled(values: Array, resamples: int = 4000) -> tuple[Array, Array, Array]:
    """Means of the columns, their replicates, and n."""
    replicates = bootstrap_ratios(values, np.ones_like(values), resamples, seed=3)
    return values.mean(axis=0), replicates, np.full(values.shape[1], float(len(values)))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.floats(-1.5, 1.5), st.sampled_from([0.8, 0.9, 0.95]), st.integers(0, 2**32 - 1))
def test_p_is_small_exactly_where_the_interval_leaves_out_zero(
    n: int, shift: float, confidence: float, seed: int
) -> None:
    values = np.random.default_rng(seed).standard_t(3, (n, 25)) + shift
    estimate, replicates, counts = resampled(values, 400)
    slack = np.full(25, 0.01)
    low, high = difference_interval(estimate, replicates, counts, confidence)
    p = p_values(estimate, replicates, counts, slack)
    outside = (low - slack > 0) | (high + slack < 0)
    assert ((p < 1 - confidence) == outside).all()
    assert ((p >= 0) & (p <= 1)).all()


def test_p_values_are_those_of_a_t_test_where_that_is_right() -> None:
    values = np.random.default_rng(0).normal(0.25, 1.0, (60, 200))
    expected = stats.ttest_1samp(values, 0.0).pvalue
    p = p_values(*resampled(values), np.zeros(200))
    assert np.abs(p - expected).max() < 0.06
    small = expected < 1e-4  # beyond what 4000 resamples resolve
    assert small.sum() > 3
    assert np.log10(p[small] / expected[small]) == pytest.approx(0, abs=1.0)


def test_p_of_samples_that_agree_and_of_a_single_sample() -> None:
    same = np.array([[0.0, 0.2, 1e-9]] * 10)
    p = p_values(*resampled(same, 50), np.full(3, 1e-6))
    assert p == pytest.approx([1.0, 0.0, 1.0], abs=1e-100)
    assert np.isnan(p_values(*resampled(same[:1], 50), np.zeros(3))).all()


def test_the_effect_size_is_hedges_corrected_d_z() -> None:
    values = np.random.default_rng(1).normal(0.5, 2.0, (12, 40))
    estimate, replicates, n = resampled(values)
    found = effect_sizes(estimate, standard_error(replicates, n), n, np.zeros(40))
    correction = math.gamma(5.5) / (math.sqrt(5.5) * math.gamma(5))
    assert correction == pytest.approx(1 - 3 / (4 * 11 - 1), abs=1e-3)  # Hedges' own approximation
    assert found == pytest.approx(correction * values.mean(axis=0) / values.std(axis=0, ddof=1), rel=0.05)


def test_the_effect_size_is_undefined_for_two_samples_and_without_spread() -> None:
    two, flat = np.array([[0.1], [0.3]]), np.full((9, 1), 0.2)
    for values in (two, flat):
        estimate, replicates, n = resampled(values, 200)
        assert np.isnan(effect_sizes(estimate, standard_error(replicates, n), n, np.full(1, 1e-7)))


@pytest.mark.parametrize("n", [2, 5, 20, 400])
def test_the_detectable_effect_has_a_power_of_80_percent(n: int) -> None:
    """By the noncentral t distribution of scipy.stats, an independent path to the same number."""
    least = detectable(np.array([0.5]), np.array([float(n)]), 0.95)[0] / 0.5
    critical = stats.t.ppf(0.975, n - 1)
    assert stats.nct.sf(critical, n - 1, least) == pytest.approx(0.8, abs=1e-4)
    assert np.isnan(detectable(np.array([0.5]), np.array([1.0]), 0.95))[0]


def simulated(n: int, shift: float, seed: int) -> pl.DataFrame:
    """Judged rows of studies whose samples are clusters of unequal length with heavy-tailed differences."""
    random = np.random.default_rng([seed, n])
    shape = (n, STUDIES)
    weight = np.exp(0.5 * random.standard_normal(shape))
    hard = 2 + random.standard_t(3, shape)
    noise = 0.2 * random.standard_normal((2, *shape)) / np.sqrt(weight)
    other = hard + 0.2 * random.standard_t(3, shape) + shift
    cells = tuple(("nll", column) for column in range(STUDIES))
    sums = [Sums(np.arange(n), cells, value * weight, weight) for value in (hard + noise[0], other + noise[1])]
    rows = paired(sums[0], sums[1], "simulation", SETTINGS).filter(pl.col("metric") == "nll")
    return with_verdicts(rows.with_columns(candidate=pl.lit("light")), SETTINGS)


def rate(rows: pl.DataFrame, condition: pl.Expr) -> float:
    return rows.select(condition.fill_null(value=False).mean()).item()


@pytest.mark.parametrize(("n", "floor"), [(8, 0.91), (16, 0.92), (64, 0.93)])
def test_intervals_cover_and_false_alarms_are_as_stated(n: int, floor: float) -> None:
    """A thousand studies: the rates have a standard error of 0.7 points. benchmarks/inference.py measures finer."""
    rows = simulated(n, 0.0, seed=5)
    alarm = rate(rows, (pl.col("ci_low") > 0) | (pl.col("ci_high") < 0))
    assert floor <= 1 - alarm <= 0.98
    if n == 8:  # of unequal length, so that they say as much as seven and less
        assert rate(rows, pl.col("verdict") == "inconclusive") > 0.99
        return
    assert rate(rows, pl.col("better")) == pytest.approx(alarm / 2, abs=0.02)
    # Under no true difference p is nearly uniform.
    assert [rate(rows, pl.col("p") < level) for level in (0.2, 0.5)] == pytest.approx([0.2, 0.5], abs=0.07)


def studies(values: Array, margin: float) -> pl.DataFrame:
    """Judged rows of studies, one a column, whose samples of equal weight differ by these values."""
    how = ComparisonSettings(resamples=600, margins={"nll": margin})
    cells, weight = tuple(("nll", column) for column in range(values.shape[1])), np.ones(values.shape)
    sums = [Sums(np.arange(len(values)), cells, 2.0 + part, weight) for part in (0 * values, values)]
    rows = paired(sums[0], sums[1], "simulation", how).filter(pl.col("metric") == "nll")
    return with_verdicts(rows.with_columns(candidate=pl.lit("light")), how)


@pytest.mark.parametrize(("n", "floor"), [(16, 0.92), (64, 0.92)])
def test_intervals_cover_where_a_rare_sample_carries_the_difference(n: int, floor: float) -> None:
    """Lognormal differences: expanded percentiles covered 86 % at n = 16, all misses on one side."""
    values = np.exp(np.random.default_rng([3, n]).standard_normal((n, 2 * STUDIES))) - math.exp(0.5)
    rows = studies(values, 0.1)
    assert 1 - rate(rows, (pl.col("ci_low") > 0) | (pl.col("ci_high") < 0)) >= floor


@pytest.mark.parametrize("n", [3, 5, 8, 16, 32, 64])
def test_a_rare_loss_of_three_margins_is_not_called_equivalent(n: int) -> None:
    """One sample in ten loses 30 margins: 72 % of studies of 3 samples see none, and said equivalent."""
    random = np.random.default_rng([4, n])
    values = 0.3 * (random.random((n, STUDIES)) < 0.1) + 0.001 * random.standard_normal((n, STUDIES))
    rows = studies(values, 0.01)
    for claim in (pl.col("verdict") == "equivalent", pl.col("no_worse"), pl.col("better")):
        assert rate(rows, claim) < 0.06


def test_two_samples_that_agree_settle_nothing() -> None:
    row = studies(np.array([[0.2], [0.2]]), 0.01).row(0, named=True)
    assert (row["verdict"], row["better"], row["no_worse"]) == ("inconclusive", None, False)
    assert not math.isfinite(row["p"])


def test_one_sample_with_nearly_all_the_weight_is_one_sample() -> None:
    heavy, equal = np.array([0.99, *[0.01 / 7] * 7]), np.full(8, 3.0)
    assert effective(np.stack([heavy, equal, 0 * equal], axis=1)) == pytest.approx([1.02, 8.0, 0.0], abs=0.01)
    cells = (("nll", None),)
    values = 2.0 + 0.1 * np.arange(8)[:, None]
    for weight, known in ((heavy, False), (equal, True)):
        pair = [Sums(np.arange(8), cells, part * weight[:, None], weight[:, None]) for part in (values, values + 0.5)]
        row = paired(pair[0], pair[1], "test", SETTINGS).row(0, named=True)
        assert (row["n"], math.isfinite(row["ci_low"]), math.isfinite(row["p"])) == (8, known, known)


def test_equivalence_is_rarely_claimed_at_the_margin_and_mostly_within_it() -> None:
    inside, edge = simulated(128, 0.0, seed=6), simulated(128, 0.1, seed=7)
    equivalent = pl.col("verdict") == "equivalent"
    assert rate(inside, equivalent) > 0.5
    assert 0.01 < rate(edge, equivalent) < 0.08
    assert rate(edge, pl.col("no_worse")) == pytest.approx(rate(edge, equivalent), abs=0.01)


def test_a_difference_as_large_as_the_detectable_effect_is_found_in_four_of_five_studies() -> None:
    error = simulated(48, 0.0, seed=8)["difference"].std()
    least = float(detectable(np.array([error]), np.array([48.0]), 0.95)[0])
    rows = simulated(48, least, seed=9)
    assert rate(rows, pl.col("p") < 0.05) == pytest.approx(0.78, abs=0.05)
    assert float(np.median(rows["mde"])) == pytest.approx(least, rel=0.1)
