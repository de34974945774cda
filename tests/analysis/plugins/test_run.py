"""Claims about a study's own metrics: a weighted mean by sample with an interval, and one line where it is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope import IndexscopeError
from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.metrics.registry import REGISTRY, all_families, with_family
from indexscope.analysis.plugins import PluginSettings
from indexscope.analysis.plugins.family import family_of
from indexscope.analysis.plugins.run import run
from indexscope.plugins import Plugin

SETTINGS = PluginSettings(resamples=100)


def attention(samples: int = 6, layers: int = 2) -> pl.DataFrame:
    """Planted sink mass and self mass: any numbers, some unknown, with unequal weights."""
    draw = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(range(samples), range(layers), range(3), range(4), indexing="ij")).reshape(4, -1)
    names = ("sample", "layer", "head", "bucket")
    frame = pl.DataFrame(dict(zip(names, grid, strict=True))).with_columns(
        queries=pl.Series(draw.integers(1, 9, grid.shape[1])), sink_mass=pl.Series(draw.random(grid.shape[1]))
    )
    return frame.with_columns(
        queries_in_effect=pl.lit(0), sink_mass=pl.when(pl.col("bucket") + pl.col("head") < 5).then("sink_mass")
    )


def of_table(function: Callable[[pl.DataFrame], object], table: str = "attention") -> Plugin:
    return Plugin("mine", "share", "A test.", "higher", function, table=table, file="own.py", digest="ab" * 32)


def feature(**more: Any) -> Plugin:
    return Plugin("mine", "share", "A test.", "higher", lambda rows: rows, file="own.py", digest="ab" * 32, **more)


def sinks(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select("sample", "layer", value="sink_mass", weight="queries")


def result(features: Mapping[str, pl.DataFrame], *metrics: Plugin) -> dict[str, pl.DataFrame]:
    with with_family(family_of(metrics)):
        return run(features, SETTINGS, metrics)


class Shards(dict[str, pl.DataFrame]):
    """Tables that are read two samples at a time."""

    def shards(self, tables: Sequence[str]) -> Iterator[Mapping[str, pl.DataFrame]]:
        for first in (0, 2, 4):
            yield {name: self[name].filter(pl.col("sample").is_between(first, first + 1)) for name in tables}


def test_a_metric_declared_again_is_the_built_in_one_with_its_interval() -> None:
    built_in = distribution.run({"attention": attention()}, DistributionSettings(resamples=100))
    own = result({"attention": attention()}, of_table(sinks))
    numbers = ["layer", "value", "ci_low", "ci_high", "n"]
    wanted = built_in["metrics"].filter(pl.col("metric") == "sink_mass").select(numbers)
    assert wanted.height == 3
    found = own["metrics"].select(numbers)
    np.testing.assert_allclose(found.to_numpy().astype(float), wanted.to_numpy().astype(float), rtol=1e-12)
    assert own["metrics"]["unit"].unique().to_list() == ["share"]
    known = own["per_sample"].filter(pl.col("layer").is_null())
    again = (known["value"] * known["weight"]).sum() / known["weight"].sum()
    assert again == pytest.approx(found["value"][0], rel=1e-12)


def test_shards_give_what_the_whole_table_gives() -> None:
    whole, parts = (
        result({"attention": attention()}, of_table(sinks)),
        result(Shards(attention=attention()), of_table(sinks)),
    )
    for name in ("metrics", "per_sample"):
        assert whole[name].equals(parts[name])


def test_a_feature_is_the_mean_over_its_queries() -> None:
    table = attention().select(*("sample", "layer", "head", "bucket"), mine="sink_mass", mine_queries="queries")
    own = result({"plugin_attention": table}, feature())["metrics"]
    again = result({"attention": attention()}, of_table(sinks))["metrics"]
    assert own.equals(again)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-1e3, 1e3), st.integers(0, 5)), min_size=1, max_size=12))
@settings(deadline=None, max_examples=30)
def test_without_a_layer_it_is_the_weighted_mean_of_all_rows(rows: list[tuple[int, float, int]]) -> None:
    frame = pl.DataFrame(rows, schema=["sample", "value", "weight"], orient="row")
    found = result({"tokens": frame}, of_table(lambda given: given, "tokens"))["metrics"]
    assert found["layer"].to_list() == [None]
    _, values, weights = map(np.array, zip(*rows, strict=True))
    expected = (values * weights).sum() / weights.sum() if weights.sum() else None
    assert found["value"][0] == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-9))


def test_what_a_model_cannot_have_is_null_and_not_zero() -> None:
    nothing = {"attention": attention()}
    for one in (of_table(sinks, "indexer"), feature(queries="in_effect"), feature(per="query", queries="in_effect")):
        found = result(nothing, one)
        assert found["metrics"].select("metric", "layer", "value", "ci_low", "n").rows() == [
            ("mine", None, None, None, 0)
        ]


def test_a_feature_that_is_nan_throughout_is_refused() -> None:
    indexer = pl.DataFrame({"sample": [0], "layer": [0], "queries_in_effect": [7]})
    with pytest.raises(IndexscopeError, match=r"own\.py: mine: is NaN at every query of the data"):
        result({"attention": attention()}, feature())
    with pytest.raises(IndexscopeError, match=r"own\.py: mine: is NaN at every query in effect"):
        result({"attention": attention(), "indexer": indexer}, feature(queries="in_effect"))


def changed(**columns: Any) -> Callable[[pl.DataFrame], object]:
    return lambda frame: sinks(frame).with_columns(**columns)


def fails(frame: pl.DataFrame) -> object:
    return frame["nothing"]


#: What a function returns, and what the line must say.
WRONG: dict[str, tuple[Callable[[pl.DataFrame], object], str]] = {
    "raises": (fails, "raised ColumnNotFoundError"),
    "list": (lambda frame: [1], "returned list"),
    "lazy": (lambda frame: sinks(frame).lazy(), "returned LazyFrame"),
    "columns": (lambda frame: frame.select("sample"), "without value and weight"),
    "text": (changed(value=pl.lit("high")), "returned String for value"),
    "broken samples": (changed(sample=pl.col("sample").cast(pl.Float64)), "returned Float64 for sample"),
    "infinite": (changed(value=pl.lit(float("inf"))), "infinite"),
    "not a number": (changed(value=pl.lit(float("nan"))), "is NaN in every row"),
    "negative weight": (changed(weight=pl.lit(-1)), "weight that is negative"),
    "null weight": (changed(weight=pl.lit(None, pl.Int64)), "null weight"),
    "foreign sample": (changed(sample=pl.lit(99)), "sample that it was not given"),
    "null layer": (changed(layer=pl.lit(None, pl.Int16)), "null layer"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_function_gets_wrong_is_one_line_with_its_name(case: str) -> None:
    function, words = WRONG[case]
    with pytest.raises(IndexscopeError) as caught:
        result({"attention": attention()}, of_table(function))
    assert caught.value.where == "own.py: mine" and words in caught.value.reason
    assert "\n" not in str(caught.value)


def test_a_layer_in_some_shards_only_is_refused() -> None:
    def sometimes(frame: pl.DataFrame) -> pl.DataFrame:
        return sinks(frame) if frame["sample"].min() else sinks(frame).drop("layer")

    with pytest.raises(IndexscopeError, match=r"own\.py: mine: returned a layer for some shards only"):
        result(Shards(attention=attention()), of_table(sometimes))


def test_the_registry_knows_a_metric_inside_the_block_only() -> None:
    built_in = list(REGISTRY)
    with with_family(family_of([of_table(sinks)])):
        assert list(REGISTRY) == [*built_in, "mine"] and REGISTRY["mine"].better == "higher"
        assert all_families()[-1].metrics == (REGISTRY["mine"],)
    assert list(REGISTRY) == built_in and "mine" not in REGISTRY
