"""How many clusters there are, and the space in which they are found: neither is left to a few outliers."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score

from indexscope.analysis.clustering import ClusteringSettings
from indexscope.analysis.clustering.choice import choose
from indexscope.analysis.clustering.kmeans import fit
from indexscope.analysis.clustering.rows import FEATURES
from indexscope.analysis.clustering.space import space_of
from tests.analysis.planted import Array

KINDS = {
    "sink": {"sink_mass": 0.7, "normalized_entropy": 0.3, "local_mass": 0.2, "reach": 1.4},
    "local": {"local_mass": 0.8, "previous_mass": 0.2, "normalized_entropy": 0.4, "reach": 0.3},
    "vertical": {"vertical_mass": 0.5, "local_mass": 0.3, "normalized_entropy": 0.4, "reach": 1.1},
    "spread out": {"normalized_entropy": 0.8, "local_mass": 0.35, "reach": 0.9},
}


def heads(seed: int, each: int = 10, samples: int = 8, noise: float = 0.06) -> tuple[Array, Array, Array]:
    """Features of heads of four kinds, the kind and the sample of each row: heads of a kind differ, and so do texts."""
    random = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(len(KINDS)), each)
    centres = np.array([[kind.get(name, 0.02) for name in FEATURES] for kind in KINDS.values()])[kinds]
    own = centres + random.normal(0, noise, centres.shape)
    rows = np.abs(np.tile(own, (samples, 1)) + random.normal(0, noise / 2, (samples * len(kinds), len(FEATURES))))
    rows[:, FEATURES.index("block_mass")] = 0.0
    return rows, np.tile(kinds, samples), np.repeat(np.arange(samples), len(kinds))


@pytest.mark.parametrize("outliers", [1, 4, 12])
def test_outliers_of_one_feature_do_not_decide_how_many_clusters_there_are(outliers: int) -> None:
    """In so many of 320 maps a twentieth of the attention happens to fill blocks, which it does nowhere else."""
    rows, kinds, samples = heads(0)
    strange = np.random.default_rng(1).choice(len(rows), outliers, replace=False)
    rows[strange, FEATURES.index("block_mass")] = np.linspace(0.05, 0.12, outliers)
    found = fit(rows, ClusteringSettings(max_clusters=6), samples, FEATURES)
    assert adjusted_rand_score(kinds, found.assign(rows)[0]) > 0.95
    chosen = found.choice.filter(pl.col("chosen")).row(0, named=True)
    assert chosen["k"] == len(KINDS)
    assert chosen["found_again"] > 0.85 and chosen["largest"] < 0.3


def test_one_tight_group_is_not_cut_up_because_its_heads_are_the_same_in_every_sample() -> None:
    rows, kinds, samples = heads(2, each=4, noise=0.02)
    same = np.tile(rows[:16], (8, 1))
    found = fit(same, ClusteringSettings(max_clusters=6), samples, FEATURES)
    assert adjusted_rand_score(kinds, found.assign(same)[0]) == 1.0
    assert found.choice.filter(pl.col("k") == 5)["found_again"].to_list() == [1.0], "and yet five are found again"


def tried(*rows: tuple[float | None, float | None, float | None, float]) -> pl.DataFrame:
    names = ("silhouette", "found_again", "apart", "largest")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    return pl.DataFrame({"k": range(2, 2 + len(rows)), **columns}, schema_overrides=dict.fromkeys(names, pl.Float64))


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([(0.40, 0.99, 0.5, 0.5), (0.38, 0.95, 0.4, 0.4), (0.37, 0.90, 0.3, 0.3), (0.39, 0.80, 0.2, 0.2)], 4),
        ([(0.40, 0.99, 0.5, 0.5), (0.39, 0.95, 0.4, 0.4), (0.38, 0.99, 0.1, 0.3)], 3),  # two of 4 are alike
        ([(0.54, 1.00, 0.9, 0.98), (0.30, 0.95, 0.3, 0.4), (0.29, 0.80, 0.3, 0.3)], 3),  # 2 set outliers apart
        ([(0.54, 1.00, 0.9, 0.90), (0.53, 0.50, 0.5, 0.5), (0.20, 0.40, 0.3, 0.3)], 2),  # nothing else will do
        ([(0.10, 0.60, 0.1, 0.5), (0.12, 0.70, 0.1, 0.4), (0.15, 0.50, 0.1, 0.3)], 3),  # nothing will
        ([(0.10, None, 0.5, 0.5), (0.12, None, 0.4, 0.4), (0.11, None, 0.3, 0.3)], 3),  # there are no halves
        ([(None, None, None, 1.0)], 2),
    ],
)
def test_as_many_clusters_are_chosen_as_are_found_again_and_can_be_told_apart(
    rows: list[tuple[float | None, float | None, float | None, float]], chosen: int
) -> None:
    assert choose(tried(*rows)) == chosen


def test_known_features_keep_their_scale_and_unknown_ones_run_from_0_to_1_without_their_ends() -> None:
    random = np.random.default_rng(0)
    rows = np.c_[random.uniform(0, 0.1, 400), random.uniform(0, 2, 400), random.uniform(-300, 500, 400), np.zeros(400)]
    rows[:3, 2], rows[:3, 3] = 1e9, 7.0
    space = space_of(rows, ["block_mass", "reach", "of a plugin", "rare"])
    placed = space.apply(rows)
    assert placed[:, 0] == pytest.approx(rows[:, 0])
    assert placed[:, 1] == pytest.approx(rows[:, 1] / 2)
    middle = (rows[:, 2] > -250) & (rows[:, 2] < 450)
    assert placed[middle, 2] == pytest.approx((rows[middle, 2] + 284) / 768, abs=0.05)
    assert placed[:3, 2].tolist() == [1.0] * 3 and placed[:, 2].min() == 0.0
    assert placed[:, 3].tolist() == [1.0] * 3 + [0.0] * 397, "nearly all rows share one value"
