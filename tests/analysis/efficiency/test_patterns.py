"""Claims about fronts: of points, and of layers, heads and pattern types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.clustering.pattern_types import classify
from indexscope.analysis.clustering.rows import pattern_rows
from indexscope.analysis.efficiency import EfficiencySettings
from indexscope.analysis.efficiency import run as efficiency
from indexscope.analysis.efficiency.patterns import patterns_pareto
from indexscope.analysis.statistics.pareto import pareto
from indexscope.analysis.statistics.resampling import bootstrap_ratios, interval
from tests.analysis import planted

SETTINGS = EfficiencySettings(resamples=400)
POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=15)


@settings(deadline=None, max_examples=30)
@given(POINTS)
def test_the_front_is_what_no_other_point_dominates(points: list[tuple[int, int]]) -> None:
    cost, quality = np.array(points, dtype=float).T
    expected = [
        not any(
            other <= own and better >= good and (other < own or better > good)
            for other, better in zip(cost, quality, strict=True)
        )
        for own, good in zip(cost, quality, strict=True)
    ]
    assert pareto(cost, quality).tolist() == expected


def test_what_is_not_known_is_not_on_the_front() -> None:
    assert pareto([1.0, np.nan, 2.0], [0.5, 0.9, np.nan]).tolist() == [True, False, False]
    assert pareto([], []).tolist() == []


class Shards(dict[str, pl.DataFrame]):
    """Tables in memory that are handed out in shards of two samples, and never whole."""

    def __init__(self, tables: Mapping[str, pl.DataFrame]) -> None:
        super().__init__({name: frame for name, frame in tables.items() if "sample" not in frame.columns})
        self.tables = dict(tables)

    def shards(self, tables: Sequence[str]) -> Iterator[Mapping[str, pl.DataFrame]]:
        last = self.tables["samples"]["sample"].max()
        assert isinstance(last, int)
        for first in range(0, last + 1, 2):
            inside = pl.col("sample").is_between(first, first + 1)
            yield {name: self.tables[name].filter(inside) for name in tables if name in self.tables}


@pytest.mark.parametrize("together", [2, 64])
def test_reading_shard_by_shard_changes_nothing(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    monkeypatch.setattr("indexscope.analysis.efficiency.patterns.TOGETHER", together)
    tables = planted.features(samples=9)
    whole, streamed = efficiency.run(tables, SETTINGS), efficiency.run(Shards(tables), SETTINGS)
    for name, frame in whole.items():
        for column in frame.columns:
            one, other = frame[column], streamed[name][column]
            if frame.schema[column] == pl.Float64:
                assert one.to_numpy() == pytest.approx(other.to_numpy(), nan_ok=True, rel=1e-9)
            else:
                assert one.to_list() == other.to_list(), (name, column)


def test_cost_and_quality_of_a_head_are_ratios_of_sums_over_its_queries_in_effect() -> None:
    tables = planted.features(samples=5, layers=2, heads=3)
    found = patterns_pareto(tables, SETTINGS)
    rows = tables["attention"].filter(pl.col("queries_in_effect") > 0)
    for row in found.filter(pl.col("level") == "head").iter_rows(named=True):
        own = rows.filter((pl.col("layer") == row["layer"]) & (pl.col("head") == row["head"]))
        weight = own["queries_in_effect"].to_numpy()
        for name, column in (("cost", "keys_for_95"), ("quality", "head_recall"), ("output_error", "output_error")):
            assert row[name] == pytest.approx((own[column].to_numpy() * weight).sum() / weight.sum())
        assert row["n"] == 5
    typed = pattern_rows(tables)
    typed = typed.with_columns(pattern_type=pl.Series(classify(typed)[0]))
    both = rows.join(typed.select("sample", "layer", "head", "pattern_type"), on=["sample", "layer", "head"])
    for row in found.filter(pl.col("level") == "pattern type").iter_rows(named=True):
        own = both.filter(pl.col("pattern_type") == row["pattern_type"])
        weight = own["queries_in_effect"].to_numpy()
        assert row["quality"] == pytest.approx((own["head_recall"].to_numpy() * weight).sum() / weight.sum())
        assert row["n"] == own["sample"].n_unique()


def test_intervals_are_those_of_the_bootstrap() -> None:
    tables = planted.features(samples=80, layers=1, heads=1)
    row = patterns_pareto(tables, SETTINGS).filter(pl.col("level") == "layer").row(0, named=True)
    rows = (
        tables["attention"].filter(pl.col("queries_in_effect") > 0).with_columns(pl.col("head_recall").cast(pl.Float64))
    )
    own = rows.group_by("sample").agg(
        top=(pl.col("head_recall") * pl.col("queries_in_effect")).sum(), bottom=pl.col("queries_in_effect").sum()
    )
    top, bottom = own["top"].to_numpy()[:, None], own["bottom"].to_numpy().astype(float)[:, None]
    replicates = bootstrap_ratios(top, bottom, 4000, 1)
    (low,), (high,) = interval(np.array([row["quality"]]), replicates, np.array([80]), 0.95)
    assert row["quality_high"] - row["quality_low"] == pytest.approx(high - low, rel=0.1)


def test_a_head_that_is_dearer_and_worse_is_not_on_the_front() -> None:
    tables = planted.features(samples=4, layers=1, heads=3)
    planned = {0: (0.1, 0.6), 1: (0.3, 0.9), 2: (0.4, 0.7)}  # head: cost, recall; the last loses to head 1 in both
    effect = pl.col("queries_in_effect") > 0
    for place, name in enumerate(("keys_for_95", "head_recall")):
        value = pl.col("head").replace_strict(
            {head: pair[place] for head, pair in planned.items()}, return_dtype=pl.Float32
        )
        tables["attention"] = tables["attention"].with_columns(pl.when(effect).then(value).alias(name))
    heads = patterns_pareto(tables, SETTINGS).filter(pl.col("level") == "head")
    assert heads["on_front"].to_list() == [True, True, False]
    assert heads["cost"].to_list() == pytest.approx([0.1, 0.3, 0.4])
    assert heads["quality_low"].to_list() == pytest.approx([0.6, 0.9, 0.7]), "the same in every sample: no uncertainty"


def test_without_an_indexer_there_is_no_front_of_patterns() -> None:
    assert patterns_pareto(planted.features(top_k=None), SETTINGS).is_empty()
    assert patterns_pareto({}, SETTINGS).is_empty()


def test_the_share_of_time_is_of_the_models_own_median() -> None:
    result = efficiency.run(planted.features(), SETTINGS)
    shares = {(row["component"], row["length"]): row["time_share"] for row in result["latency"].iter_rows(named=True)}
    assert shares["indexer", 256] == pytest.approx(2 / 20)
    assert shares["attention", 128] == pytest.approx(2.5 / 10)
    found = dict(result["metrics"].select("metric", "value").iter_rows())
    assert found["indexer_time_share"] == pytest.approx(0.1)
    assert "indexer_peak_bytes" not in found, "this profile did not measure memory"
    tables = planted.features()
    tables["profile"] = tables["profile"].with_columns(peak_bytes=pl.lit(4096, dtype=pl.Int64))
    measured = dict(efficiency.run(tables, SETTINGS)["metrics"].select("metric", "value").iter_rows())
    assert measured["indexer_peak_bytes"] == measured["model_peak_bytes"] == 4096
