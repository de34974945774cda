"""Recall of single queries: the worst ones are found where they were planted, and quantiles are those of numpy."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.distribution.panel import draw_worst, worst_words
from indexscope.analysis.distribution.recalls import QUANTILES
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.recalls import RECALLS, Recalls
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.conftest import tiny_dsa
from tests.analysis.samples import samples

FIRST, LENGTH = 8, 700
SETTINGS = DistributionSettings(resamples=50)


def table(values: dict[tuple[int, int], np.ndarray], step: int = LENGTH) -> pl.DataFrame:
    """The feature table of recall [queries] by sample and layer; queries before FIRST are not in effect."""
    rows = []
    for (sample, layer), recall in values.items():
        kept = Recalls()
        for start in range(0, LENGTH, step):
            part = recall[None, start : start + step].astype(np.float32)
            position = np.arange(start, start + part.shape[1])
            kept.add(part, position, np.log2(position + 1).astype(int))
        rows += [(sample, layer, *more) for _, *more in kept.rows()]
    return pl.DataFrame(rows, schema=RECALLS.schema, orient="row").sort(RECALLS.key)


def drawn(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).beta(8, 2, LENGTH)
    values[:FIRST] = np.nan
    return values.astype(np.float32).astype(np.float64)


def test_the_worst_query_is_found_where_it_was_planted() -> None:
    values = {(sample, layer): drawn(2 * sample + layer) for sample in (3, 5) for layer in (0, 1)}
    values[5, 1][611], values[3, 0][9] = 0.015625, 0.03125
    result = distribution.run({"recalls": table(values)}, SETTINGS)
    rows = result["worst_queries"].rows()
    assert rows == [(None, 0.015625, 5, 611), (0, 0.03125, 3, 9), (1, 0.015625, 5, 611)]
    words = worst_words(result)
    assert "0.016: sample 5, position 611, layer 1" in words[0] and "n = 2,768 queries" in words[0]
    assert draw_worst(result)[0].figure is not None


def test_metrics_are_means_over_samples_and_layers_of_the_minimum_and_the_first_percentile() -> None:
    values = {(sample, layer): drawn(7 * sample + layer) for sample in range(4) for layer in (0, 2)}
    metrics = distribution.run({"recalls": table(values)}, SETTINGS)["metrics"]
    for layer in (None, 0, 2):
        own = [recall[FIRST:] for (_, one), recall in values.items() if layer in (None, one)]
        for name, expected, rel in (
            ("lowest_recall", np.mean([recall.min() for recall in own]), 1e-6),
            ("recall_p01", np.mean([np.quantile(recall, 0.01, method="hazen") for recall in own]), 0.02),
        ):
            row = metrics.filter((pl.col("metric") == name) & pl.col("layer").eq_missing(layer)).row(0, named=True)
            assert row["value"] == pytest.approx(expected, rel=rel)
            assert row["n"] == 4 and row["ci_low"] < row["value"] < row["ci_high"]


def test_quantiles_over_all_queries_are_those_of_numpy() -> None:
    values = {(sample, layer): drawn(90 + 3 * sample + layer) for sample in range(20) for layer in (0, 1)}
    found = distribution.run({"recalls": table(values)}, SETTINGS)["recall_quantiles"]
    position = np.arange(LENGTH)
    for layer in (None, 0, 1):
        for bucket in (None, 3, 6, 9):
            inside = (position >= FIRST) & ((np.log2(position + 1).astype(int) == bucket) | (bucket is None))
            every = np.concatenate([recall[inside] for (_, one), recall in values.items() if layer in (None, one)])
            rows = found.filter(pl.col("layer").eq_missing(layer) & pl.col("bucket").eq_missing(bucket))
            assert rows["quantile"].to_list() == list(QUANTILES)
            assert rows["count"].unique().to_list() == [len(every)]
            for level, value in zip(rows["quantile"], rows["value"], strict=True):
                assert abs((every <= value).mean() - level) <= 0.5 * np.sqrt(level * (1 - level)) * 0.03 + 1 / len(
                    every
                )


@pytest.mark.parametrize("step", [1, 60, 333])
def test_chunks_change_nothing(step: int) -> None:
    values = {(0, 0): drawn(1), (1, 0): drawn(2)}
    assert table(values, step).equals(table(values))


def test_a_selection_that_fails_at_one_query_in_fifty_shows_though_its_mean_hardly_moves() -> None:
    good = np.full(LENGTH, 0.97)
    bad = np.where(np.arange(LENGTH) % 50 == 20, 0.0, good)
    assert np.mean(bad) > 0.95
    found = distribution.run({"recalls": table({(0, 0): bad, (1, 0): bad})}, SETTINGS)["metrics"]
    assert dict(found.filter(pl.col("layer").is_null()).select("metric", "value").iter_rows()) == {
        "lowest_recall": 0.0,
        "recall_p01": 0.0,
    }


@pytest.mark.parametrize("compiled", ["auto", 7])
def test_extraction_keeps_the_recall_of_every_query_in_effect(compiled: object) -> None:
    tables = extract_samples(tiny_dsa(), samples(150, 60), ExtractSettings(chunk=16 if compiled == 7 else 150))
    recalls, indexer = tables["recalls"], tables["indexer"].filter(pl.col("queries_in_effect") > 0)
    both = recalls.join(indexer, on=["sample", "layer", "bucket"])
    assert recalls.height == indexer.height == both.height
    assert both["queries"].to_list() != [] and (both["queries"] == both["queries_in_effect"]).all()
    assert (both["lowest"] <= both["selection_recall"] + 1e-6).all()
    assert (both["position"] + 1 >= 2 ** both["bucket"].cast(pl.Int32)).all()
