"""Claims about the intervals of clusters and types: of the right numbers, and as wide as the samples differ."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_samples

from indexscope.analysis.clustering import ClusteringSettings
from indexscope.analysis.clustering import run as clustering
from indexscope.analysis.clustering.agreement import AGREEMENTS, adjusted_rand, agreement, mutual_information, resampled
from indexscope.analysis.clustering.counts import Counting
from indexscope.analysis.clustering.kmeans import fit
from indexscope.analysis.clustering.pattern_types import TYPES, type_shares
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.resampling import Array, bootstrap_ratios, interval, resample_counts
from tests.analysis import planted

TABLES = arrays(np.int64, (3, 4), elements=st.integers(0, 6)).filter(lambda table: table.sum() > 1)


def spread_out(table: Array) -> tuple[Array, Array]:
    """The two labels of every row that a contingency table counts."""
    rows, columns = np.indices(table.shape)
    counts = table.astype(int).ravel()
    return np.repeat(rows.ravel(), counts), np.repeat(columns.ravel(), counts)


@given(TABLES)
@settings(max_examples=60, deadline=None)
def test_the_indices_of_a_table_are_those_of_its_rows(table: Array) -> None:
    first, second = spread_out(table)
    found = adjusted_rand(table.astype(float)), mutual_information(table.astype(float))
    if (table > 0).sum() == 1:
        assert np.isnan(found).all(), "one cluster and one type agree neither well nor badly"
    else:
        expected = adjusted_rand_score(first, second), normalized_mutual_info_score(first, second, average_method="max")
        assert found == pytest.approx(expected, abs=1e-12)


def test_agreement_is_one_for_renamed_groups_and_keeps_its_digits_with_many_rows() -> None:
    assert float(adjusted_rand(np.diag([2.0, 3.0])[::-1])) == float(mutual_information(np.diag([2.0, 3.0]))) == 1.0
    assert float(adjusted_rand(np.eye(2))) == 1.0, "every row alone, on both sides"
    table = np.array([[4.0, 1.0], [2.0, 5.0]])
    many = float(adjusted_rand(1e7 * table))
    # Pairs within a cell dominate: the index of shares p is (sum p^2 - a b) / ((a + b) / 2 - a b).
    p = table / 12
    a, b = (p.sum(axis=1) ** 2).sum(), (p.sum(axis=0) ** 2).sum()
    assert many == pytest.approx(((p**2).sum() - a * b) / ((a + b) / 2 - a * b), rel=1e-6)


def drawn(random: np.random.Generator, samples: int, heads: int = 12) -> Array:
    """Maps by sample, cluster and type: samples differ in how many of their maps are of the first kind of each."""
    pairs = np.zeros((samples, 2, len(TYPES)))
    for sample, share in enumerate(random.beta(2, 2, samples)):
        cluster = (random.random(heads) > share).astype(int)
        kind = np.where(random.random(heads) < 0.8, cluster, 1 - cluster)
        np.add.at(pairs[sample], (cluster, kind), 1.0)
    return pairs


def test_a_replicate_is_the_index_of_the_maps_of_the_drawn_samples() -> None:
    pairs = drawn(np.random.default_rng(0), samples=9)
    bootstrap = BootstrapSettings(resamples=25, seed=3)
    estimates, replicates = resampled(pairs, bootstrap)
    assert estimates == pytest.approx([float(measure(pairs.sum(axis=0))) for measure in AGREEMENTS.values()])
    draws = np.concatenate(list(resample_counts(9, 25, 3)))
    for counts, replicate in zip(draws, replicates, strict=True):
        labels = [spread_out(pairs[sample]) for sample in range(9) for _ in range(int(counts[sample]))]
        first, second = (np.concatenate(side) for side in zip(*labels, strict=True))
        expected = adjusted_rand_score(first, second), normalized_mutual_info_score(first, second, average_method="max")
        assert replicate == pytest.approx(expected, abs=1e-12)


def test_the_interval_of_the_agreement_holds_that_of_all_samples_as_often_as_it_says() -> None:
    """Of 200 studies of 40 samples each, 88 to 99 % (95 % stated; three standard errors)."""
    random = np.random.default_rng(1)
    truth = float(adjusted_rand(drawn(random, 20_000).sum(axis=0)))
    held, studies = 0, 200
    for study in range(studies):
        estimates, replicates = resampled(drawn(random, 40), BootstrapSettings(resamples=200, seed=study))
        low, high = interval(estimates, replicates, np.full(2, 40), 0.95)
        held += bool(low[0] <= truth <= high[0])
    assert 0.88 <= held / studies <= 0.99


def assignments(seed: int, samples: int = 11) -> pl.DataFrame:
    """Two layers of eight heads; the first layer of a sample is all of one cluster."""
    random = np.random.default_rng(seed)
    sample, layer, head = (axis.ravel() for axis in np.indices((samples, 2, 8)))
    kind = np.where(layer == 0, random.integers(0, 2, samples)[sample], random.integers(0, 3, len(sample)))
    types = [TYPES[place] for place in random.integers(0, 3, len(sample))]
    return pl.DataFrame(
        {"sample": sample, "layer": layer, "head": head, "cluster": kind, "pattern_type": types},
        schema={
            "sample": pl.Int32,
            "layer": pl.Int16,
            "head": pl.Int16,
            "cluster": pl.Int16,
            "pattern_type": pl.Enum(TYPES),
        },
    )


def counted(rows: pl.DataFrame, size: int, clusters: int = 3) -> Counting:
    counting = Counting(clusters)
    for start in range(0, rows.height, size):
        counting.add(rows[start : start + size])
    return counting


def test_shares_of_clusters_and_types_are_ratios_over_samples() -> None:
    rows, bootstrap = assignments(0), BootstrapSettings(resamples=40, seed=2)
    counts = counted(rows, 16).counts()
    found = agreement(counts.pairs, bootstrap)
    for cell in found.iter_rows(named=True):
        own = rows.filter(pl.col("cluster") == cell["cluster"])
        expected = by_sample(own, pl.col("pattern_type") == cell["pattern_type"], 11, bootstrap)
        assert (cell["share"], cell["ci_low"], cell["ci_high"], cell["n"]) == pytest.approx(expected)
    types = type_shares(counts.layers, counts.types, bootstrap)
    for cell in types.iter_rows(named=True):
        own = rows if cell["layer"] is None else rows.filter(pl.col("layer") == cell["layer"])
        expected = by_sample(own, pl.col("pattern_type") == cell["pattern_type"], 11, bootstrap)
        assert (cell["share"], cell["ci_low"], cell["ci_high"], cell["n"]) == pytest.approx(expected)
        assert cell["ci_low"] < cell["share"] < cell["ci_high"]
    assert types.height == 9


def by_sample(
    rows: pl.DataFrame, kind: pl.Expr, samples: int, bootstrap: BootstrapSettings
) -> tuple[float, float, float, int]:
    top, bottom = np.zeros((2, samples, 1))
    for sample, is_kind in rows.select("sample", kind=kind).iter_rows():
        top[sample] += is_kind
        bottom[sample] += 1
    value, n = top.sum(axis=0) / bottom.sum(axis=0), (bottom > 0).sum(axis=0)
    replicates = bootstrap_ratios(top, bottom, bootstrap.resamples, bootstrap.seed)
    low, high = interval(value, replicates, n, bootstrap.confidence)
    return float(value[0]), float(low[0]), float(high[0]), int(n[0])


def test_samples_that_are_all_alike_leave_no_uncertainty() -> None:
    rows = assignments(0).filter(pl.col("sample") == 0)
    same = pl.concat([rows.with_columns(sample=pl.lit(sample, dtype=pl.Int32)) for sample in range(10)])
    counts = counted(same, 40).counts()
    for frame in (
        agreement(counts.pairs, BootstrapSettings()),
        type_shares(counts.layers, counts.types, BootstrapSettings()),
    ):
        assert frame["ci_low"].to_list() == pytest.approx(frame["share"].to_list())
        assert frame["ci_high"].to_list() == pytest.approx(frame["share"].to_list())


def test_the_silhouette_has_the_interval_of_a_mean_over_samples() -> None:
    random = np.random.default_rng(4)
    owners = np.repeat(np.arange(12), 5)
    features = np.array([[0.0, 0.0], [6.0, 1.0]])[random.integers(0, 2, 60)] + random.normal(0, 0.8, (60, 2))
    found = fit(features, ClusteringSettings(clusters=2, resamples=80), owners)
    row = found.choice.row(0, named=True)
    values = silhouette_samples(found.space.apply(features), found.assign(features)[0])
    top = values.reshape(12, 5).sum(axis=1, keepdims=True)
    low, high = interval(
        np.array([values.mean()]), bootstrap_ratios(top, np.full((12, 1), 5.0), 80, 0), np.array([12]), 0.95
    )
    expected = (values.mean(), low[0], high[0], 12)
    assert (row["silhouette"], row["silhouette_low"], row["silhouette_high"], row["n"]) == pytest.approx(expected)


def test_metrics_carry_their_intervals_and_say_which_have_none() -> None:
    result = clustering.run(planted.features(samples=9, seed=2), ClusteringSettings(resamples=50))
    rows = {row["metric"]: row for row in result["metrics"].iter_rows(named=True)}
    for name in ("rule_agreement", "rule_information", "silhouette"):
        assert rows[name]["ci_low"] < rows[name]["value"] < rows[name]["ci_high"] and rows[name]["n"] == 9
    for name in ("clusters_chosen", "cluster_stability"):
        assert rows[name]["ci_low"] is rows[name]["ci_high"] is None
    clusters = result["clusters"]
    assert (clusters["size"] / result["assignments"].height).to_list() == pytest.approx(clusters["share"].to_list())
    assert (clusters["ci_low"] < clusters["share"]).all() and (clusters["share"] < clusters["ci_high"]).all()


def test_a_row_joins_its_cluster_whatever_comes_with_it() -> None:
    """To the last bit, alone, in batches of any size and from any memory layout; checked against matrix products."""
    random = np.random.default_rng(5)
    features = random.normal(size=(257, 10)) @ random.normal(size=(10, 10))
    found = fit(features, ClusteringSettings(clusters=4))
    clusters, distances = found.assign(features)
    for size in (1, 7, 64):
        parts = [found.assign(features[start : start + size]) for start in range(0, 257, size)]
        assert np.array_equal(np.concatenate([part[0] for part in parts]), clusters)
        assert np.concatenate([part[1] for part in parts]).tobytes() == distances.tobytes()
    assert found.assign(np.asfortranarray(features))[1].tobytes() == distances.tobytes()
    away = np.linalg.norm(found.space.apply(features)[:, None] - found.centres, axis=2)
    assert np.array_equal(clusters, away.argmin(axis=1))
    assert distances == pytest.approx(away.min(axis=1))
