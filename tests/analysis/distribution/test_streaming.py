"""Claims about reading shard by shard: no cut into shards changes a bit, and no order of rows either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.metrics import grids as gridding
from indexscope.analysis.metrics.metric import Ratio
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.stream import Sharded
from tests.analysis import planted

SETTINGS = DistributionSettings(resamples=20)
SAMPLES = 40
TABLES = planted.features(samples=SAMPLES, layers=2, length=70, seed=12)


class Cut(Mapping[str, pl.DataFrame]):
    """Tables in shards that begin at the given samples; reading a table whole is an error."""

    def __init__(self, tables: Mapping[str, pl.DataFrame], starts: Sequence[int], seed: int | None = None) -> None:
        self.tables, self.starts, self.seed = tables, sorted({0, *starts}), seed

    def __getitem__(self, table: str) -> pl.DataFrame:
        raise AssertionError(f"{table} was read whole")

    def __contains__(self, table: object) -> bool:
        return table in self.tables

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables)

    def __len__(self) -> int:
        return len(self.tables)

    def shards(self, tables: Sequence[str]) -> Iterator[Mapping[str, pl.DataFrame]]:
        for low, high in zip(self.starts, [*self.starts[1:], 1 << 20], strict=True):
            shard = {}
            for name in tables:
                if name in self.tables:
                    rows = self.tables[name].filter(pl.col("sample").is_between(low, high, closed="left"))
                    shard[name] = rows if self.seed is None else rows.sample(fraction=1, shuffle=True, seed=self.seed)
            yield shard


def assert_same(first: Mapping[str, pl.DataFrame], other: Mapping[str, pl.DataFrame]) -> None:
    assert list(first) == list(other)
    for name, frame in first.items():
        assert_frame_equal(frame, other[name], check_exact=True)


WHOLE = distribution.run(TABLES, SETTINGS)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, SAMPLES - 1), max_size=SAMPLES), st.one_of(st.none(), st.integers(0, 99)))
def test_no_cut_into_shards_and_no_order_of_rows_changes_a_bit(starts: list[int], seed: int | None) -> None:
    assert_same(distribution.run(Cut(TABLES, starts, seed), SETTINGS), WHOLE)


@pytest.mark.parametrize("starts", [[0], [13, 26], list(range(SAMPLES))])
def test_one_shard_three_and_one_a_sample_give_identical_frames(starts: list[int]) -> None:
    features = Cut(TABLES, starts)
    assert isinstance(features, Sharded)
    assert_same(distribution.run(features, SETTINGS), WHOLE)


def test_the_size_of_the_parts_of_a_large_table_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gridding, "BLOCK", 50)  # less than a sample's rows
    assert_same(distribution.run(TABLES, SETTINGS), WHOLE)


def test_grids_add_up_what_the_definition_says_in_every_cell() -> None:
    rules = {
        name: metric.rule
        for name, metric in REGISTRY.items()
        if isinstance(metric.rule, Ratio) and metric.rule.table == "attention"
    }
    frame = TABLES["attention"].filter(pl.col("sample").is_in([3, 7, 20]))
    ((by_bucket, by_head),) = gridding.grids(frame, rules, ["bucket", "head"])
    assert by_bucket.samples.tolist() == [3, 7, 20]
    for grid, other in ((by_bucket, "bucket"), (by_head, "head")):
        assert grid.rows.sum() == frame.height
        for place, rule in enumerate(rules.values()):
            one = pl.lit(1.0)
            value = pl.col(rule.value).cast(pl.Float64) - (pl.col(rule.minus) if rule.minus else 0.0)
            weight, over = (pl.col(name).cast(pl.Float64) if name else one for name in (rule.weight, rule.over))
            known = frame.filter(value.is_not_null() & over.is_not_null() & (weight > 0))
            found = known.group_by("sample", "layer", other).agg(
                top=(value * weight).sum(), bottom=(over * weight).sum()
            )
            top, bottom = np.zeros((2, *grid.rows.shape))
            for sample, layer, key, amount, total in found.iter_rows():
                at = ([3, 7, 20].index(sample), layer, grid.others.tolist().index(key))
                top[at], bottom[at] = amount, total
            np.testing.assert_allclose(grid.numerator[place], top, rtol=1e-12)
            np.testing.assert_allclose(grid.denominator[place], bottom, rtol=1e-12)


@pytest.mark.parametrize("samples", [[5, 900_000_000, 17], [-4, 3]])
def test_ids_may_be_any_integers(samples: list[int]) -> None:
    frame = pl.DataFrame({"sample": samples, "bucket": [0] * len(samples), "tokens": [2] * len(samples), "nll": 1.5})
    ((grid,),) = gridding.grids(frame, {"nll": Ratio("tokens", "nll", "tokens")}, [""])
    assert grid.samples.tolist() == sorted(samples)
    assert grid.numerator[0, :, 0, 0].tolist() == [3.0] * len(samples)


def test_many_digests_merge_within_their_stated_error() -> None:
    random = np.random.default_rng(5)
    parts = [random.normal(random.normal(), 1.0, 400).astype(np.float32) for _ in range(150)]
    rows = [planted.score_row(i, 0, "unselected", part) for i, part in enumerate(parts)]
    tables = {"scores": pl.DataFrame(rows, schema=planted.SCORES, orient="row")}
    found = distribution.run(tables, SETTINGS)["score_quantiles"]
    every = np.sort(np.concatenate(parts))
    for group in ("unselected", "all"):
        own = found.filter(pl.col("group") == group)
        ranks = np.searchsorted(every, own["value"].to_numpy()) / len(every)
        assert np.abs(ranks - own["quantile"].to_numpy()).max() < 0.01
