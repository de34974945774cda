"""Claims about aggregation: exact, whatever the shards and their order."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from indexscope.analysis.metrics.metric import Ratio
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.sums import from_per_sample, join, per_sample, table_sums
from indexscope.analysis.statistics.resampling import ratio
from tests.analysis import planted

TABLES = ("tokens", "indexer", "attention")


def slow(frame: pl.DataFrame, rule: Ratio, layer: int | None) -> float:
    """The definition, row by row in Python."""
    top = bottom = 0.0
    for row in frame.iter_rows(named=True):
        if layer is not None and row["layer"] != layer:
            continue
        value = row[rule.value]
        over = row[rule.over] if rule.over else 1.0
        weight = row[rule.weight] if rule.weight else 1.0
        if value is None or over is None or weight == 0:
            continue
        top += (value - (row[rule.minus] if rule.minus else 0.0)) * weight
        bottom += over * weight
    return top / bottom if bottom else float("nan")


def test_every_ratio_metric_equals_its_definition_row_by_row() -> None:
    tables = planted.features(seed=3)
    for table in TABLES:
        sums = table_sums(tables, table)
        values = ratio(sums.numerator.sum(axis=0), sums.denominator.sum(axis=0))
        for (metric, layer), value in zip(sums.cells, values, strict=True):
            rule = REGISTRY[metric].rule
            assert isinstance(rule, Ratio)
            assert value == pytest.approx(slow(tables[table], rule, layer), rel=1e-12), (metric, layer)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_shards_changes_no_bit(seed: int) -> None:
    tables = planted.features(samples=4)
    first = join([table_sums(tables, table) for table in TABLES])
    other = join([table_sums(planted.shuffled(tables, seed), table) for table in TABLES])
    assert first.cells == other.cells
    assert (first.numerator == other.numerator).all()
    assert (first.denominator == other.denominator).all()


def test_values_by_sample_give_the_metric_again() -> None:
    tables = planted.features(seed=1)
    sums = join([table_sums(tables, table) for table in TABLES], tables)
    frame = per_sample(sums)
    whole = ratio(sums.numerator.sum(axis=0), sums.denominator.sum(axis=0))
    again = frame.group_by("metric", "layer").agg(
        value=(pl.col("value") * pl.col("weight")).sum() / pl.col("weight").sum()
    )
    found = {(metric, layer): value for metric, layer, value in again.iter_rows()}
    for cell, value in zip(sums.cells, whole, strict=True):
        assert found[cell] == pytest.approx(value, rel=1e-12)


def test_a_per_sample_table_survives_the_way_there_and_back() -> None:
    tables = planted.features(seed=2)
    frame = per_sample(join([table_sums(tables, table) for table in TABLES], tables))
    mixed = frame.sample(fraction=1.0, shuffle=True, seed=4)
    again = per_sample(from_per_sample(mixed)).sort("metric", "layer", "sample")
    assert_frame_equal(again, frame.sort("metric", "layer", "sample"), rel_tol=1e-14, abs_tol=0.0)


def test_a_sample_without_weight_is_listed_as_measured_but_unknown() -> None:
    """A sample shorter than k has no query in effect: no recall, and not a recall of 0."""
    tables = planted.features(length=100, top_k=60, seed=5)
    short = tables["samples"].filter(pl.col("tokens") <= 60)["sample"].to_list()
    assert short
    frame = per_sample(join([table_sums(tables, "indexer")], tables))
    rows = frame.filter((pl.col("metric") == "selection_recall") & pl.col("sample").is_in(short))
    assert rows["value"].null_count() == rows.height == len(short)
    assert set(rows["weight"]) == {0.0}


def test_a_dense_model_has_no_recall() -> None:
    sums = table_sums(planted.features(top_k=None), "attention")
    metrics = {metric for metric, _ in sums.cells}
    assert "attention_entropy" in metrics
    assert not metrics & {"head_recall", "output_error"}


def test_no_table_gives_no_metrics() -> None:
    assert table_sums({}, "attention").cells == ()
    assert table_sums({"tokens": pl.DataFrame()}, "tokens").cells == ()
    assert join([]).numerator.shape == (0, 0)
    assert np.isnan(ratio(join([]).numerator.sum(axis=0), 1.0)).size == 0
