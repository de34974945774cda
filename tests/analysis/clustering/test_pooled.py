"""Claims about clusters that models share, their sampling, space, stability and transitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.metrics import adjusted_rand_score

from indexscope.analysis.clustering import ClusteringSettings
from indexscope.analysis.clustering import run as clustering
from indexscope.analysis.clustering.choice import FOUND_AGAIN
from indexscope.analysis.clustering.kmeans import fit
from indexscope.analysis.clustering.pattern_types import TYPES
from indexscope.analysis.clustering.tables import ASSIGNMENTS
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.resampling import bootstrap_ratios, interval
from indexscope.analysis.transitions import run as transitions
from indexscope.storage.store.parquet import decode, encode
from tests.analysis import planted

Frames = Mapping[str, pl.DataFrame]


class Cut(dict[str, pl.DataFrame]):
    """Feature tables cut into shards of so many samples."""

    def __init__(self, tables: Frames, size: int) -> None:
        super().__init__(tables)
        self.size = size

    def shards(self, tables: Sequence[str]) -> Iterator[Frames]:
        ids = self["attention"]["sample"].unique().sort().to_list()
        for start in range(0, len(ids), self.size):
            own = ids[start : start + self.size]
            yield {name: self[name].filter(pl.col("sample").is_in(own)) for name in tables}


@pytest.mark.parametrize("size", [1, 5])
def test_how_samples_are_cut_into_shards_changes_nothing(size: int) -> None:
    tables = planted.features(samples=12, seed=3)
    settings = ClusteringSettings(max_rows=40)
    whole, cut = (clustering.run(given, settings) for given in (tables, Cut(tables, size)))
    assert whole["assignments"].height > 40, "more rows than are fitted on"
    for name in whole:
        assert_frame_equal(whole[name], cut[name], check_exact=True)


def test_models_fitted_together_share_their_clusters_in_any_order() -> None:
    one, other = (planted.features(samples=8, seed=seed) for seed in (3, 4))
    settings = ClusteringSettings(clusters=3)
    first = clustering.run(one, settings, [one, other])
    second = clustering.run(other, settings, [other, one])
    kept = ["cluster", "name", "sink_mass", "reach"]
    assert_frame_equal(first["clusters"].select(kept), second["clusters"].select(kept), check_exact=True)
    assert_frame_equal(first["choice"], second["choice"], check_exact=True)
    assert not first["clusters"].select(kept).equals(clustering.run(one, settings)["clusters"].select(kept))


def test_clear_clusters_are_stable_and_noise_is_not() -> None:
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 60)
    clear = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])[truth] + random.normal(0, 0.3, (180, 2))
    found = fit(clear, ClusteringSettings(clusters=3))
    assert adjusted_rand_score(truth, found.assign(clear)[0]) == 1.0
    assert found.choice.select("seeds_min", "halves_min", "found_again").row(0) == (1.0, 1.0, 1.0)
    noise = fit(random.normal(size=(180, 6)), ClusteringSettings(clusters=6)).choice.row(0, named=True)
    assert noise["halves_mean"] < 0.7
    assert noise["halves_min"] <= noise["halves_mean"]
    assert noise["found_again"] < FOUND_AGAIN


def assigned(clusters: Sequence[int], types: Sequence[str]) -> pl.DataFrame:
    count = len(clusters)
    return pl.DataFrame(
        {
            "sample": np.arange(count) // 2,
            "layer": np.zeros(count),
            "head": np.arange(count) % 2,
            "cluster": clusters,
            "pattern_type": types,
        },
        schema_overrides={
            "sample": pl.Int32,
            "layer": pl.Int16,
            "head": pl.Int16,
            "cluster": pl.Int16,
            "pattern_type": pl.Enum(TYPES),
        },
    )


def one(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """A table in one part."""
    return [rows]


def test_transitions_count_what_moved() -> None:
    before = assigned([0, 0, 0, 1], ["sink", "sink", "local", "local"])
    after = assigned([0, 1, 0, 1], ["sink", "sink", "local", "sink"])
    found = transitions.run({"base": one(before), "light": one(after)}, "base", BootstrapSettings(resamples=50))
    overall = found["transitions"].filter(pl.col("layer").is_null(), pl.col("of") == "cluster")
    assert overall.select("before", "after", "count", "n").rows() == [
        ("0", "0", 2, 2),
        ("0", "1", 1, 2),
        ("1", "1", 1, 1),
    ]
    assert overall["share"].to_list() == pytest.approx([2 / 3, 1 / 3, 1.0])
    moved = found["moved"].filter(pl.col("layer").is_null())
    assert dict(moved.select("of", "moved").iter_rows()) == {"cluster": 0.25, "type": 0.25}
    assert moved["n"].to_list() == [2, 2]


def test_a_model_against_itself_moves_nothing() -> None:
    rows = assigned([0, 1, 2, 0], ["sink", "local", "self", "mixed"])
    found = transitions.run({"base": one(rows), "same": one(rows)}, "base", BootstrapSettings(resamples=50))
    assert found["moved"]["moved"].to_list() == [0.0] * 4
    assert (found["transitions"]["before"] == found["transitions"]["after"]).all()


def many(seed: int, samples: int = 40) -> pl.DataFrame:
    """Assignments of two layers of three heads, at random."""
    random = np.random.default_rng(seed)
    size = 6 * samples
    rows = assigned(random.integers(0, 3, size).tolist(), [TYPES[kind] for kind in random.integers(0, 4, size)])
    place = np.arange(size)
    keys = [("sample", place // 6, pl.Int32), ("layer", place // 3 % 2, pl.Int16), ("head", place % 3, pl.Int16)]
    return rows.with_columns(pl.Series(name, values, dtype=kind) for name, values, kind in keys)


def test_a_transition_is_a_ratio_of_sums_over_samples_with_its_interval() -> None:
    """By sorting rows into dictionaries, one layer and one cell at a time."""
    before, after = many(1), many(2)
    settings = BootstrapSettings(resamples=60)
    found = transitions.run({"base": one(before), "light": one(after)}, "base", settings)["transitions"]
    row = found.filter(
        pl.col("layer") == 1, pl.col("of") == "cluster", pl.col("before") == "2", pl.col("after") == "0"
    ).row(0, named=True)
    top, bottom = np.zeros((2, 40, 1))
    for own, other in zip(before.iter_rows(named=True), after.iter_rows(named=True), strict=True):
        if own["layer"] == 1 and own["cluster"] == 2:
            bottom[own["sample"]] += 1
            top[own["sample"]] += other["cluster"] == 0
    n = (bottom > 0).sum(axis=0)
    assert row["n"] == n[0] < 40
    assert row["share"] == pytest.approx(top.sum() / bottom.sum())
    bounds = interval(top.sum(0) / bottom.sum(0), bootstrap_ratios(top, bottom, 60, 0), n, 0.95)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx([bound[0] for bound in bounds])
    assert row["ci_low"] < row["share"] < row["ci_high"]


def test_types_keep_their_names_when_they_come_back_from_a_store() -> None:
    """As words that are numbered by who came first, or as plain words; and each model's in another order."""
    before, after, settings = many(1), many(2), BootstrapSettings(resamples=10)
    expected = transitions.run({"base": one(before), "light": one(after)}, "base", settings)
    back = [decode(encode(rows, ASSIGNMENTS), "file") for rows in (after, before)]
    for first, second in ((back[1], back[0]), (back[1], after.cast({"pattern_type": pl.String}))):
        found = transitions.run({"base": one(first), "light": one(second)}, "base", settings)
        for name in expected:
            assert_frame_equal(found[name], expected[name], check_exact=True)
    counts = dict(before.group_by(pl.col("pattern_type").cast(pl.String)).len().iter_rows())
    overall = expected["transitions"].filter(pl.col("layer").is_null(), pl.col("of") == "type")
    assert dict(overall.group_by("before").agg(pl.col("count").sum()).iter_rows()) == counts


@pytest.mark.parametrize("sizes", [(7, 11), (1, 240), (50, 3)])
def test_how_a_table_is_cut_into_parts_changes_no_transition(sizes: tuple[int, int]) -> None:
    """Parts end within samples, and the candidate lacks the first samples and some of the others."""
    before = many(1)
    after = many(2).filter(~pl.col("sample").is_in([0, 1, 7, 39]))
    cut = [
        [frame[start : start + size] for start in range(0, frame.height, size)]
        for frame, size in zip((before, after), sizes, strict=True)
    ]
    settings = BootstrapSettings(resamples=20)
    whole = transitions.run({"base": one(before), "light": one(after)}, "base", settings)
    parted = transitions.run({"base": cut[0], "light": cut[1]}, "base", settings)
    for name in whole:
        assert_frame_equal(whole[name], parted[name], check_exact=True)
    assert whole["moved"]["n"].max() == 36
