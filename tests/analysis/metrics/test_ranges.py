"""Claims about ranges: whatever the features, a metric lies within the range that it declares."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.efficiency import EfficiencySettings
from indexscope.analysis.efficiency import run as efficiency
from indexscope.analysis.metrics.bounds import bounds
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.summary import summarise
from indexscope.analysis.metrics.sums import Sums
from indexscope.analysis.positional_bias import PositionalBiasSettings
from indexscope.analysis.positional_bias import run as positional_bias
from indexscope.analysis.settings import BootstrapSettings
from tests.analysis import planted

#: Columns that `planted.features` draws from 0 to 1, and what they are stretched to: the range of one query.
STRETCHED = {
    "attention_entropy": (0.0, math.log),
    "effective_keys": (1.0, float),
    "participation": (1.0, float),
    "mean_distance": (0.0, lambda n: n - 1.0),
}


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


@pytest.mark.parametrize("name", REGISTRY)
def test_a_declared_range_can_be_read(name: str) -> None:
    low, high = REGISTRY[name].bounds
    assert low < high


def test_a_bound_that_depends_on_the_length_is_the_widest_where_that_is_unknown() -> None:
    assert bounds("0 to ln n_t", 8) == (0.0, math.log(8))
    assert bounds("0 to ln n_t") == (0.0, math.inf)
    assert bounds("1/n_t to 1") == (0.0, 1.0)


def test_a_range_in_other_words_is_refused() -> None:
    with pytest.raises(ValueError, match="some"):
        bounds("some to many")


def cell(name: str, values: list[float]) -> Sums:
    numerator = np.array(values)[:, None]
    return Sums(np.arange(len(values)), ((name, None),), numerator, np.ones_like(numerator))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rows_identical_up_to_ties", [0.6, 0.9]),  # 75 % from -18 to 168 %
        ("special_lift", [2.0, 2.46]),  # from -0.77 to 5.23
        ("output_kl_bfloat16", [0.001, 0.004, 0.0001]),
        ("selection_recall", [0.99, 1.0, 1.0]),
        ("sharing_loss", [0.9, 0.2, 1.0]),
        ("perplexity", [0.5, 3.0]),
        ("effective_keys", [1.0, 9.0]),
    ],
)
def test_the_interval_of_few_samples_stays_within_the_metrics_range(name: str, values: list[float]) -> None:
    sums = cell("nll" if name == "perplexity" else name, values)
    row = summarise(sums, BootstrapSettings()).filter(pl.col("metric") == name).row(0, named=True)
    low, high = REGISTRY[name].bounds
    assert low <= row["ci_low"] < row["value"] < row["ci_high"] <= high


def test_a_difference_without_a_range_keeps_its_symmetric_interval() -> None:
    row = summarise(cell("sparsity_cost", [-0.1, 0.2]), BootstrapSettings()).row(0, named=True)
    assert row["value"] - row["ci_low"] == pytest.approx(row["ci_high"] - row["value"])
