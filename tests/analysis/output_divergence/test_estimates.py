"""Claims about estimates over weighted queries, against slow ones that repeat every query as often as it counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.output_divergence.estimates import Weighted
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.resampling import interval, resample_counts

SETTINGS = BootstrapSettings(resamples=60, seed=3)
SAMPLES = 12


def planted(seed: int = 0, queries: int = 80) -> tuple[Weighted, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    sample = random.permutation(np.arange(queries) % SAMPLES)
    weight = random.integers(1, 6, queries).astype(float)
    values = random.exponential(1, queries)
    return Weighted(sample, weight, SAMPLES, SETTINGS), values, values + random.normal(0, 0.3, queries)


def repeated(values: np.ndarray, own: Weighted, drawn: np.ndarray) -> np.ndarray:
    return np.repeat(values, (own.weight * drawn[own.sample]).astype(int))


def bounds(own: Weighted, value: float, slow) -> tuple[float, float]:
    """Interval of a statistic that is computed anew on every resample."""
    draws = np.concatenate(list(resample_counts(SAMPLES, SETTINGS.resamples, SETTINGS.seed)))
    replicates = np.array([[slow(drawn)] for drawn in draws])
    low, high = interval(np.array([value]), replicates, np.array([SAMPLES]), SETTINGS.confidence)
    return float(low[0]), float(high[0])


def test_a_mean_and_a_root_mean_square_are_those_of_repeated_queries() -> None:
    own, values, _ = planted()
    once = np.ones(SAMPLES)
    mean = own.mean(values)
    assert mean.value == pytest.approx(repeated(values, own, once).mean())
    assert mean.n == SAMPLES
    low, high = bounds(own, mean.value, lambda drawn: repeated(values, own, drawn).mean())
    assert (mean.low, mean.high) == pytest.approx((low, high))
    root = own.mean(values**2, root=True)
    assert root.value == pytest.approx(np.sqrt((repeated(values, own, once) ** 2).mean()))
    low, high = bounds(own, root.value, lambda drawn: np.sqrt((repeated(values, own, drawn) ** 2).mean()))
    assert (root.low, root.high) == pytest.approx((low, high))


@pytest.mark.parametrize("level", [0.01, 0.5, 0.9, 0.99])
def test_a_quantile_is_the_smallest_value_that_holds_its_share(level: float) -> None:
    own, values, _ = planted()
    (found,) = own.quantiles(values, [level])

    def slow(drawn: np.ndarray) -> float:
        return float(np.quantile(repeated(values, own, drawn), level, method="inverted_cdf"))

    assert found.value == slow(np.ones(SAMPLES))
    assert (found.low, found.high) == pytest.approx(bounds(own, found.value, slow))


def test_a_correlation_is_that_of_repeated_queries() -> None:
    own, one, other = planted()

    def slow(drawn: np.ndarray) -> float:
        return float(np.corrcoef(repeated(one, own, drawn), repeated(other, own, drawn))[0, 1])

    found = own.correlation(one, other)
    assert found.value == pytest.approx(slow(np.ones(SAMPLES)))
    assert (found.low, found.high) == pytest.approx(bounds(own, found.value, slow))
    assert own.correlation(one, one + 5).value == pytest.approx(1.0, abs=1e-12)
    assert np.isnan(own.correlation(one, np.ones_like(one)).value), "what does not vary correlates with nothing"


def test_unknown_values_count_in_no_sum() -> None:
    own, values, other = planted()
    values[own.sample < 3] = np.nan
    kept = ~np.isnan(values)
    assert own.mean(values) == own.of(kept).mean(values[kept])
    assert own.quantiles(values, [0.5]) == own.of(kept).quantiles(values[kept], [0.5])
    assert own.correlation(values, other) == own.of(kept).correlation(values[kept], other[kept])
    assert own.mean(values).n == SAMPLES - 3
    nothing = np.full(len(values), np.nan)
    assert own.mean(nothing).n == own.quantiles(nothing, [0.5])[0].n == 0
    assert np.isnan(own.mean(nothing).value) and np.isnan(own.quantiles(nothing, [0.5])[0].value)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_weights_may_be_scaled_and_queries_come_in_any_order(seed: int) -> None:
    own, values, other = planted(seed)
    order = np.random.default_rng(seed).permutation(len(values))
    scaled = Weighted(own.sample[order], own.weight[order] * 0.7, SAMPLES, SETTINGS)
    levels = [0.1, 0.5, 0.99]
    for one, two in zip(own.quantiles(values, levels), scaled.quantiles(values[order], levels), strict=True):
        assert one == two
    assert own.mean(values) == pytest.approx(scaled.mean(values[order]))
    assert own.correlation(values, other) == pytest.approx(scaled.correlation(values[order], other[order]))
