"""Claims about ranges: whatever the features, a metric lies within the range that it declares."""

from __future__ import annotations

import math
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.efficiency import EfficiencySettings
from indexscope.analysis.efficiency import run as efficiency
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.positional_bias import PositionalBiasSettings
from indexscope.analysis.positional_bias import run as positional_bias
from tests.analysis import planted

WORDS = {
    "any real number": (-math.inf, math.inf),
    "above 0, below 1": (0.0, 1.0),
    "above 0, at most 1": (0.0, 1.0),
}
#: Columns that `planted.features` draws from 0 to 1, and what they are stretched to: the range of one query.
STRETCHED = {
    "attention_entropy": (0.0, math.log),
    "effective_keys": (1.0, float),
    "participation": (1.0, float),
    "mean_distance": (0.0, lambda n: n - 1.0),
}


def bounds(text: str, longest: int) -> tuple[float, float]:
    """The declared range as numbers, for sequences of at most that many keys.

    >>> bounds("0 to ln n_t", 8)[1] == math.log(8), bounds("≥ 1", 8)
    (True, (1.0, inf))
    """
    if text in WORDS:
        return WORDS[text]
    if found := re.fullmatch(r"[≥>] (-?[\d.]+)", text):
        return float(found[1]), math.inf
    if found := re.fullmatch(r"≤ ([\d.]+)", text):
        return -math.inf, float(found[1])
    low, high = text.split(" to ")
    named = {"ln n_t": math.log(longest), "n_t": longest, "n_t - 1": longest - 1, "1/n_t": 1 / longest}
    return (float(named.get(low, low)), float(named.get(high, high)))


def whole(seed: int, length: int, top_k: int | None) -> dict[str, pl.DataFrame]:
    """Random features in which every column of one query spans its own range."""
    tables = planted.features(samples=4, layers=2, length=length, top_k=top_k, seed=seed)
    last = (2 ** (pl.col("bucket").cast(pl.Int32) + 1) - 1).clip(upper_bound=length).cast(pl.Float64)
    attention = tables["attention"]
    ends = attention.select(last.alias("end"))["end"].to_numpy()
    for name, (low, high) in STRETCHED.items():
        top = np.array([high(end) for end in ends])
        values = low + attention[name].to_numpy() * (top - low)
        attention = attention.with_columns(pl.Series(name, values, dtype=pl.Float32))
    attention = attention.with_columns(pl.max_horizontal("max_weight", 1 / last).alias("max_weight"))
    return tables | {"attention": attention}


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10_000), st.integers(4, 70), st.sampled_from([None, 1, 3, 8, 40]))
def test_every_metric_lies_within_its_declared_range(seed: int, length: int, top_k: int | None) -> None:
    tables = whole(seed, length, top_k)
    frames = [
        distribution.run(tables, DistributionSettings(resamples=10))["metrics"],
        positional_bias.run(tables, PositionalBiasSettings(resamples=10))["metrics"],
        efficiency.run(tables, EfficiencySettings(resamples=10))["metrics"],
    ]
    for name, layer, value in pl.concat(frames).select("metric", "layer", "value").iter_rows():
        if name == "selection_skill":  # of recalls that are drawn apart, so that the best choice need not be the best
            continue
        low, high = bounds(REGISTRY[name].range, length)
        assert value is None or low - 1e-6 <= value <= high + 1e-6 * max(1.0, high), (name, layer, value, low, high)


@pytest.mark.parametrize(
    "name", [name for name, metric in REGISTRY.items() if metric.rule.table in ("tokens", "indexer", "attention")]
)
def test_a_declared_range_can_be_read(name: str) -> None:
    if name != "clusters_chosen" and name != "silhouette":
        low, high = bounds(REGISTRY[name].range, 100)
        assert low < high
