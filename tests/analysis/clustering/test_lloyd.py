"""The compiled k-means and silhouettes are those of scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_samples

from indexscope.analysis.clustering.lloyd import RESTARTS, fitted, nearest
from indexscope.analysis.clustering.silhouette import silhouettes


@pytest.mark.parametrize("k", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5])
def test_a_fit_is_that_of_scikit_learn(k: int, seed: int) -> None:
    rows = np.random.default_rng(k).random((700, 4)) ** 3
    found = fitted(rows, k, seed)
    expected = KMeans(k, n_init=RESTARTS, random_state=seed % 2**32).fit(rows)
    assert (found.labels == expected.labels_).all()
    assert found.centres == pytest.approx(expected.cluster_centers_, abs=1e-12)
    assert found.inertia == pytest.approx(expected.inertia_, rel=1e-12)
    assert (nearest(rows, found.centres)[0] == expected.predict(rows)).all()


def test_rows_with_fewer_distinct_values_than_clusters_are_all_on_a_centre() -> None:
    rows = np.repeat([[0.0, 0.0], [1.0, 0.5]], 20, axis=0)
    found = fitted(rows, 3, 0)
    assert found.inertia == 0 and np.isfinite(found.centres).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found.inertia == KMeans(3, n_init=RESTARTS, random_state=0).fit(rows).inertia_


def test_silhouettes_are_those_of_scikit_learn_for_each_grouping() -> None:
    random = np.random.default_rng(0)
    rows = np.concatenate([random.random((60, 3)), np.full((5, 3), 0.5)])
    labels = np.stack([random.integers(0, k, len(rows)) for k in (2, 3, 6)], axis=1)
    labels[0, 1] = 7  # alone
    found = silhouettes(rows, labels)
    for column, own in zip(found.T, labels.T, strict=True):
        assert column == pytest.approx(silhouette_samples(rows, own), abs=1e-12)
    assert found[0, 1] == 0


def test_one_cluster_and_as_many_as_rows_have_no_silhouette() -> None:
    rows = np.arange(5.0)[:, None]
    assert np.isnan(silhouettes(rows, np.stack([np.zeros(5, np.int64), np.arange(5)], axis=1))).all()
