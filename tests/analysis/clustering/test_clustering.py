"""Claims about clusters and pattern types, on planted features and planted attention maps."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from indexscope.analysis.clustering import ClusteringSettings
from indexscope.analysis.clustering import run as clustering
from indexscope.analysis.clustering.kmeans import fit
from indexscope.analysis.clustering.pattern_types import RULES, TYPES, classify
from indexscope.analysis.clustering.rows import FEATURES, GIVEN, pattern_rows
from indexscope.analysis.clustering.run import cluster_names
from tests.analysis import planted
from tests.analysis.planted import Array

LENGTH = 160


def grid(length: int) -> tuple[Array, Array]:
    t, s = np.indices((length, length)).astype(float)
    return t, s


def sink(length: int) -> Array:
    _, s = grid(length)
    return np.where(s < 4, 50.0, 0.05)


def previous(length: int) -> Array:
    t, s = grid(length)
    return np.where(t - s == 1, 300.0, 0.05)


def own(length: int) -> Array:
    t, s = grid(length)
    return np.where(t == s, 300.0, 0.05)


def slash(length: int) -> Array:
    t, s = grid(length)
    return np.where(t - s == 11, 300.0, 0.05)


def vertical(length: int) -> Array:
    _, s = grid(length)
    return np.where(np.isin(s, [6, 7, 9, 12]), 50.0, 0.05)


def local(length: int) -> Array:
    t, s = grid(length)
    return np.exp(-(t - s) / 8)


def block(length: int) -> Array:
    """Attention within aligned blocks of 16 keys."""
    t, s = grid(length)
    return np.where(t // 16 == s // 16, 50.0, 0.05)


def uniform(length: int) -> Array:
    return np.ones((length, length))


def distant(length: int) -> Array:
    """Peaked on keys far away, at random, so neither uniform nor in columns."""
    random = np.random.default_rng(0)
    t, s = grid(length)
    return np.where(t - s >= 32, random.pareto(0.7, (length, length)) ** 2, 1e-3)


PLANTED = {
    "sink": sink,
    "previous-token": previous,
    "self": own,
    "slash": slash,
    "vertical": vertical,
    "block": block,
    "local": local,
    "uniform": uniform,
    "global": distant,
}


def jittered(length: int, weights: Array, seed: int) -> Array:
    return weights * np.random.default_rng(seed).uniform(0.5, 1.5, (length, length))


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_pattern_is_recognised_with_a_margin(name: str) -> None:
    rows = pattern_rows(planted.maps([PLANTED[name]], LENGTH))
    types, margins = classify(rows)
    assert types == [name]
    assert margins[0] > 0.01


def row(**changes: float) -> pl.DataFrame:
    """A map of so many queries and keys that chance has next to nothing anywhere."""
    neutral = dict.fromkeys((*FEATURES, *GIVEN), 0.0)
    neutral |= {"normalized_entropy": 0.6, "local_mass": 0.45, "sink_mass": 0.2}
    return pl.DataFrame([neutral | {"queries": 1e9, "mapped_queries": 1e9, "keys": 1e9} | changes])


def test_a_row_that_no_rule_fits_is_mixed() -> None:
    types, margins = classify(row())
    assert types == ["mixed"]
    assert margins[0] == pytest.approx(0.05)  # local needs 0.05 more


def test_induction_heads_are_recognised() -> None:
    assert classify(row(induction_mass=0.7))[0] == ["induction"]


def test_the_margin_is_the_smallest_change_that_changes_the_type() -> None:
    """Local by 0.3, but 0.1 short of being a sink, which comes first."""
    types, margins = classify(row(local_mass=0.9, sink_mass=0.4))
    assert types == ["local"]
    assert margins[0] == pytest.approx(0.1)


def test_every_rule_can_win_and_no_two_share_a_name() -> None:
    assert len(set(TYPES)) == len(RULES) + 1
    won = {
        "uniform": {"normalized_entropy": 1.0},
        "vertical": {"vertical_mass": 0.4},
        "slash": {"slash_mass": 0.4},
        "block": {"block_mass": 0.3},
        "local": {"local_mass": 0.7},
        "global": {"beyond_mass": 0.6},
        "sink": {"sink_mass": 0.6},
        "previous-token": {"previous_mass": 0.6},
        "self": {"self_mass": 0.6},
        "induction": {"induction_mass": 0.5},
    }
    assert {rule.name for rule in RULES} == set(won)
    for name, changes in won.items():
        assert classify(row(**changes))[0] == [name]


def test_a_rule_asks_for_a_part_of_what_uniform_attention_leaves() -> None:
    """Of local mass 0.8 where uniform attention has 0.75, a fifth of the rest is local; of 0.9, 0.6."""
    short = {"uniform_local": 0.75, "reach": 1.0}
    assert classify(row(local_mass=0.8, **short))[0] == ["mixed"]
    types, margins = classify(row(local_mass=0.9, **short))
    assert types == ["local"]
    assert margins[0] == pytest.approx(0.9 - (0.75 + 0.5 * 0.25))


def test_in_a_window_that_holds_the_context_the_distance_tells_what_is_local() -> None:
    whole = {"local_mass": 1.0, "uniform_local": 1.0}
    assert classify(row(**whole, reach=0.45))[0] == ["local"]
    assert classify(row(**whole, reach=0.55))[0] == ["mixed"]
    assert classify(row(uniform_local=0.4, reach=0.1))[0] == ["mixed"]


def test_planted_clusters_are_found_again() -> None:
    """Three tight groups of feature rows: k = 3 wins, and every row lands with its group."""
    random = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 2.0], [0.0, 5.0, -2.0]])
    truth = np.repeat([0, 1, 2], [60, 40, 20])
    features = centres[truth] + random.normal(0, 0.1, (120, 3))
    found = fit(features, ClusteringSettings())
    assert len(found.centroids) == 3
    assert (found.assign(features)[0] == truth).all()  # the largest cluster is number 0
    assert found.choice.filter(pl.col("chosen"))["k"].to_list() == [3]
    assert found.choice["k"].to_list() == list(range(2, 9))


def test_clusters_are_the_same_in_every_run() -> None:
    tables = planted.features(samples=12, seed=3)
    first, again = (clustering.run(tables, ClusteringSettings(seed=5)) for _ in range(2))
    for name in first:
        assert_frame_equal(first[name], again[name], check_exact=True)


def test_the_order_of_shards_changes_no_cluster() -> None:
    tables = planted.features(samples=12, seed=4)
    first = clustering.run(tables, ClusteringSettings())
    other = clustering.run(planted.shuffled(tables, 8), ClusteringSettings())
    for name in first:
        assert_frame_equal(first[name], other[name], check_exact=True)


def test_rows_beyond_the_limit_join_the_nearest_cluster() -> None:
    random = np.random.default_rng(2)
    truth = np.tile([0, 0, 1], 100)
    features = np.array([[0.0, 0.0], [6.0, 6.0]])[truth] + random.normal(0, 0.2, (300, 2))
    found = fit(features[:30], ClusteringSettings(clusters=2))
    assert (found.assign(features)[0] == truth).all()


def test_more_clusters_than_distinct_rows_are_not_made() -> None:
    features = np.repeat([[0.0, 0.0], [1.0, 1.0]], 5, axis=0)
    assert len(fit(features, ClusteringSettings(clusters=7)).centroids) == 2
    same = fit(np.zeros((4, 2)), ClusteringSettings())
    assert len(same.centroids) == 1
    assert same.choice["silhouette"].to_list() == [None]


def test_planted_heads_fall_into_clusters_that_their_names_describe() -> None:
    heads = [
        lambda length, weights=weights, seed=seed: jittered(length, weights(length), seed)
        for weights in (sink, previous, local)
        for seed in range(4)
    ]
    result = clustering.run(planted.maps(heads, LENGTH, samples=3), ClusteringSettings())
    assert result["metrics"].filter(pl.col("metric") == "clusters_chosen")["value"].to_list() == [3.0]
    by_cluster = result["assignments"].group_by("cluster").agg(pl.col("pattern_type").unique(), pl.col("head").unique())
    assert all(len(types) == 1 for types in by_cluster["pattern_type"])
    assert sorted(sorted(own) for own in by_cluster["head"]) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    names = dict(result["clusters"].select("cluster", "name").iter_rows())
    of_type = {types[0]: names[number] for number, types in by_cluster.select("cluster", "pattern_type").iter_rows()}
    assert "sink" in of_type["sink"].split(", ")
    assert "previous token" in of_type["previous-token"].split(", ")
    assert result["clusters"]["size"].to_list() == [12, 12, 12]
    assert result["clusters"]["share"].sum() == pytest.approx(1.0)


def test_names_differ_even_where_centroids_hardly_do() -> None:
    differences = np.array([[0.4, 0.0], [0.5, 0.0], [-0.4, 0.2], [0.05, -0.05], [0.0, -0.2]])
    names = cluster_names(differences, ["sink_mass", "self_mass"])
    assert names == ["sink (1)", "sink (2)", "self", "average", "not self"]
    assert cluster_names(np.zeros((1, 2)), ["sink_mass", "self_mass"]) == ["all heads"]


def test_uniform_attention_reaches_as_far_as_uniform_attention() -> None:
    """Mean distance t / 2, so that reach is 1 exactly, at any length."""
    for length in (40, 97):
        assert pattern_rows(planted.maps([uniform], length))["reach"].to_list() == pytest.approx([1.0])


def test_types_by_layer_add_up() -> None:
    result = clustering.run(planted.features(samples=5, seed=1), ClusteringSettings(clusters=2))
    types = result["pattern_types"]
    assert types.group_by("layer").agg(pl.col("share").sum())["share"].to_list() == pytest.approx([1.0] * 4)
    overall = types.filter(pl.col("layer").is_null())["count"].sum()
    assert overall == types.filter(pl.col("layer").is_not_null())["count"].sum() == result["assignments"].height


def test_samples_too_short_to_show_a_pattern_give_empty_frames() -> None:
    short = clustering.run(planted.features(length=12), ClusteringSettings())
    full = clustering.run(planted.features(), ClusteringSettings())
    for name, frame in full.items():
        assert short[name].is_empty()
        assert short[name].schema == frame.schema, name
