"""Claims about clusters that models share, their sampling, space, stability and transitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.metrics import adjusted_rand_score

from analysis import clustering
from analysis.clustering.agreement import rule_agreement, rule_information
from analysis.clustering.kmeans import fit
from analysis.clustering.pattern_types import TYPES
from analysis.clustering.transitions import transitions
from analysis.clustering.whitening import whitening
from analysis.settings import BootstrapSettings, ClusteringSettings
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
    whole, cut = (clustering.run(one, settings) for one in (tables, Cut(tables, size)))
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
    for name in ("choice", "directions"):
        assert_frame_equal(first[name], second[name], check_exact=True)
    assert not first["clusters"].select(kept).equals(clustering.run(one, settings)["clusters"].select(kept))


def test_whitened_features_are_uncorrelated_and_flat_directions_dropped() -> None:
    random = np.random.default_rng(0)
    free = random.normal(size=(500, 3)) @ random.normal(size=(3, 3))
    rows = np.c_[free, free[:, 0] + free[:, 1], np.full(500, 7.0)]
    space = whitening(rows)
    assert space.kept <= 3
    white = space.apply(rows)
    assert np.cov(white.T, bias=True) == pytest.approx(np.eye(space.kept), abs=1e-9)


def test_clear_clusters_are_stable_and_noise_is_not() -> None:
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 60)
    clear = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])[truth] + random.normal(0, 0.3, (180, 2))
    found = fit(clear, ClusteringSettings(clusters=3))
    assert adjusted_rand_score(truth, found.assign(clear)[0]) == 1.0
    assert found.choice.select("seeds_min", "halves_min").row(0) == (1.0, 1.0)
    noise = fit(random.normal(size=(180, 6)), ClusteringSettings(clusters=6)).choice.row(0, named=True)
    assert noise["halves_mean"] < 0.7
    assert noise["halves_min"] <= noise["halves_mean"]


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
            "cluster": pl.Int32,
            "pattern_type": pl.Enum(TYPES),
        },
    )


def test_agreement_is_one_for_renamed_groups_and_that_of_scikit_learn_elsewhere() -> None:
    same = assigned([0, 0, 1, 1], ["sink", "sink", "local", "local"])
    assert rule_agreement(same) == rule_information(same) == pytest.approx(1.0)
    random = np.random.default_rng(0)
    clusters, types = random.integers(0, 3, 60).tolist(), random.integers(0, 4, 60)
    found = rule_agreement(assigned(clusters, [TYPES[place] for place in types]))
    assert found == pytest.approx(adjusted_rand_score(types, clusters))
    assert rule_agreement(assigned([0, 0], ["sink", "sink"])) is None


def test_transitions_count_what_moved() -> None:
    before = assigned([0, 0, 0, 1], ["sink", "sink", "local", "local"])
    after = assigned([0, 1, 0, 1], ["sink", "sink", "local", "sink"])
    found = transitions({"base": before, "light": after}, "base", BootstrapSettings(resamples=50))
    overall = found["transitions"].filter(pl.col("layer").is_null(), pl.col("of") == "cluster")
    assert overall.select("before", "after", "count").rows() == [("0", "0", 2), ("0", "1", 1), ("1", "1", 1)]
    assert overall["share"].to_list() == pytest.approx([2 / 3, 1 / 3, 1.0])
    moved = found["moved"].filter(pl.col("layer").is_null())
    assert dict(moved.select("of", "moved").iter_rows()) == {"cluster": 0.25, "type": 0.25}
    assert moved["n"].to_list() == [2, 2]


def test_a_model_against_itself_moves_nothing() -> None:
    rows = assigned([0, 1, 2, 0], ["sink", "local", "self", "mixed"])
    found = transitions({"base": rows, "same": rows}, "base", BootstrapSettings(resamples=50))
    assert found["moved"]["moved"].to_list() == [0.0] * 4
    assert (found["transitions"]["before"] == found["transitions"]["after"]).all()
