"""Claims about context lengths: one extraction gives what studies of several lengths would have measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from transformers import DeepseekV32ForCausalLM

from indexscope.analysis.context_length import ContextLengthSettings
from indexscope.analysis.context_length import run as context_length
from indexscope.analysis.context_length.extent import extent
from indexscope.analysis.context_length.tables import LENGTHS
from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.features import extract_samples
from indexscope.analysis.metrics.blocks import BLOCK
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample
from tests.analysis import planted
from tests.analysis.samples import samples

SETTINGS = ContextLengthSettings(resamples=100)
EXTRACT = ExtractSettings(selection_queries=0)


@pytest.fixture(scope="module")
def long(dsa: DeepseekV32ForCausalLM) -> dict[str, pl.DataFrame]:
    return extract_samples(dsa, samples(128, 100, 40), EXTRACT)


def cut(own: Sequence[Sample], longest: int) -> list[Sample]:
    return [Sample(sample.index, sample.name, sample.input_ids[:longest]) for sample in own]


def of(frame: pl.DataFrame, **wanted: object) -> pl.DataFrame:
    for name, value in wanted.items():
        frame = frame.filter(pl.col(name).eq_missing(pl.lit(value, dtype=frame[name].dtype)))
    return frame


@pytest.mark.parametrize("longest", [31, 63, 127])
def test_queries_up_to_a_length_are_a_study_of_that_length(
    dsa: DeepseekV32ForCausalLM, long: dict[str, pl.DataFrame], longest: int
) -> None:
    """Every metric of the same documents cut at L; of predicted tokens, cut at L + 1, where L are predicted."""
    found = of(context_length.run(long, SETTINGS)["lengths"], length=longest, kind="up to")
    compared = 0
    for extra, tables in ((0, ("indexer", "attention")), (1, ("tokens",))):
        features = extract_samples(dsa, cut(samples(128, 100, 40), longest + extra), EXTRACT)
        short = distribution.run({name: features[name] for name in (*tables, "indexer")}, DistributionSettings())
        own = short["metrics"].join(found, on=["metric", "layer"], nulls_equal=True, suffix="_here")
        wanted = ("nll", "perplexity", "accuracy", "dense_nll", "sparsity_cost")
        own = own.filter(pl.col("metric").is_in(wanted) if extra else ~pl.col("metric").is_in(wanted))
        compared += own.height
        # A key more or less in a chunk changes the order of sums: rows agree to single precision.
        for row in own.iter_rows(named=True):
            known = np.array([row["value"], row["value_here"]], dtype=float)  # unknown must be unknown
            assert known[1] == pytest.approx(known[0], rel=2e-6, abs=1e-6, nan_ok=True), row
            assert row["n_here"] == row["n"]
    assert compared > 100


def test_queries_at_a_length_are_those_of_its_last_power_of_two(long: dict[str, pl.DataFrame]) -> None:
    found = of(context_length.run(long, SETTINGS)["lengths"], metric="selection_recall", length=63, kind="at", layer=1)
    rows = long["indexer"].filter((pl.col("layer") == 1) & (pl.col("bucket") == 5))
    expected = (rows["selection_recall"] * rows["queries_in_effect"]).sum() / rows["queries_in_effect"].sum()
    assert found["value"].item() == pytest.approx(expected)
    assert found["n"].item() == 3


def test_a_bucket_that_the_longest_sample_hardly_enters_is_left_out() -> None:
    tokens = pl.DataFrame({"sample": [0], "tokens": [512]})
    size = extent({"samples": tokens})
    assert [size.length(bucket) for bucket in range(size.buckets)] == [1, 3, 7, 15, 31, 63, 127, 255, 511]
    size = extent({"samples": tokens.with_columns(tokens=pl.lit(400))})
    assert [size.length(bucket) for bucket in range(size.buckets)][-2:] == [255, 400]


def planted_loss(loss: Sequence[float], seed: int = 0, number: int = 20) -> dict[str, pl.DataFrame]:
    """One layer, k = 8, lengths of 127: skill falls by the given amounts in buckets 3 to 6, chance and best as well."""
    random = np.random.default_rng(seed)
    tables = planted.features(samples=number, layers=1, length=127, top_k=8, seed=seed)
    rows = []
    for sample in range(number):
        ease = random.normal(0, 0.1)  # what is easy about a sample is so at all lengths
        for bucket, queries, multi, first in planted.buckets(127):
            effect = max(0, first + queries - max(first, 8))
            lost = loss[bucket - 3] if bucket >= 3 else 0.0
            skill = 0.6 + ease - lost + random.normal(0, 0.005)
            # The same k of twice the keys: chance halves, and the best choice holds less.
            chance, best = 0.8 / 2.0 ** (bucket - 3), 1.0 - 0.05 * (bucket - 3)
            recall = chance + skill * (best - chance)
            rows.append((sample, 0, bucket, queries, multi, effect, recall if effect else None, best, chance))
    keys = {"sample": pl.Int32, "layer": pl.Int16, "bucket": pl.Int8}
    counts = dict.fromkeys(("queries", "queries_multi", "queries_in_effect"), pl.Int32)
    names = dict.fromkeys(("selection_recall", "oracle_recall", "random_recall"), pl.Float64)
    whole = pl.DataFrame(rows, schema=keys | counts | names, orient="row")
    return {"samples": tables["samples"].with_columns(tokens=pl.lit(127, pl.Int32)), "indexer": whole}


def found_onset(tables: dict[str, pl.DataFrame]) -> dict[str, object]:
    return of(context_length.run(tables, SETTINGS)["onset"], metric="selection_skill", layer=None).row(0, named=True)


def test_the_onset_of_a_planted_loss_is_found_with_its_size() -> None:
    """Samples differ by 0.1, the loss begins with 0.05: only pairing by sample shows it."""
    row = found_onset(planted_loss([0.0, 0.0, 0.05, 0.2]))
    assert (row["first_length"], row["length"], row["longest"], row["n"]) == (15, 63, 127, 20)
    assert row["loss"] == pytest.approx(0.2, abs=0.01)
    assert row["ci_low"] < 0.2 + 0.01 and row["ci_high"] > 0.2 - 0.01  # type: ignore[operator]


def test_a_loss_that_comes_back_is_no_onset_and_the_metric_is_null() -> None:
    tables = planted_loss([0.0, 0.2, 0.0, 0.0])
    assert found_onset(tables)["length"] is None
    metrics = context_length.run(tables, SETTINGS)["metrics"]
    assert metrics["metric"].unique().to_list() == ["skill_onset_length"]
    assert metrics["value"].null_count() == metrics.height == 2


def test_a_selection_of_equal_skill_loses_nothing_although_its_recall_falls() -> None:
    """What chance and the best choice hold falls with every bucket, and recall with them: once a loss from 31 on."""
    tables = planted_loss([0.0] * 4)
    found = context_length.run(tables, SETTINGS)
    recall = of(found["lengths"], metric="recall_of_oracle", layer=None, kind="at").sort("length")["value"]
    assert (recall.diff().drop_nulls() < -0.02).all()
    assert found["metrics"]["value"].null_count() == 2
    assert set(found["onset"]["metric"]) == {"selection_skill"}


@pytest.mark.parametrize(("lost", "onset"), [(0.0005, None), (0.003, 127)])
def test_a_loss_that_does_not_matter_is_none_however_many_samples_show_it(lost: float, onset: int | None) -> None:
    tables = planted_loss([0.0, 0.0, 0.0, lost], number=400)
    row = found_onset(tables)
    assert row["ci_low"] > 0 if onset else row["length"] is None  # type: ignore[operator]
    assert row["length"] == onset


def test_an_improvement_is_no_loss() -> None:
    row = found_onset(planted_loss([0.0, -0.05, -0.1, -0.2]))
    assert row["length"] is None
    assert row["loss"] == pytest.approx(-0.2, abs=0.01)


def test_equal_lengths_are_hardly_ever_called_a_loss() -> None:
    """The last bucket alone decides whether there is an onset: at most one in forty by chance, by the upper tail."""
    found = [found_onset(planted_loss([0.0] * 4, seed, 12))["length"] for seed in range(40)]
    assert sum(one is not None for one in found) <= 5


def test_longer_samples_that_are_harder_from_the_start_are_no_loss() -> None:
    """Only they reach the last bucket, and they are compared with themselves."""
    tables = planted_loss([0.0] * 4)
    short = pl.col("sample") < 10
    easy = pl.when(short).then(pl.col("selection_recall") + 0.05).otherwise("selection_recall")
    indexer = tables["indexer"].with_columns(selection_recall=easy).filter(~short | (pl.col("bucket") < 6))
    row = found_onset(tables | {"indexer": indexer})
    assert row["n"] == 10
    assert abs(row["loss"]) < 0.02  # type: ignore[arg-type]


@pytest.mark.parametrize("cuts", [[1, 5], [256], [100, 300]])
def test_the_cut_into_shards_changes_no_bit(cuts: list[int]) -> None:
    tables = planted.features(samples=BLOCK + 60, layers=2, one_map=True, length=40)
    settings = ContextLengthSettings(resamples=20)
    whole = context_length.run(tables, settings)

    class Cut:
        def __contains__(self, name: object) -> bool:
            return name in tables

        def shards(self, names: Sequence[str]) -> Iterator[dict[str, pl.DataFrame]]:
            for first, last in pairwise([0, *cuts, 10_000]):
                rows = pl.col("sample").is_between(first, last - 1)
                yield {name: tables[name].filter(rows) for name in names if name in tables}

    parts = context_length.run(Cut(), settings)
    for name, frame in whole.items():
        assert frame.equals(parts[name]), name


def test_a_dense_model_has_lengths_and_no_onset() -> None:
    result = context_length.run(planted.features(top_k=None), SETTINGS)
    metrics = set(result["lengths"]["metric"])
    assert {"attention_entropy", "nll", "perplexity"} <= metrics
    assert not metrics & {"selection_recall", "head_recall", "output_error"}
    assert result["onset"].is_empty() and result["metrics"].is_empty()


def test_no_tables_give_empty_frames() -> None:
    full, empty = context_length.run(planted.features(), SETTINGS), context_length.run({}, SETTINGS)
    for name, frame in full.items():
        assert empty[name].is_empty()
        assert empty[name].schema == frame.schema, name
    assert dict(full["lengths"].schema) == LENGTHS.schema
