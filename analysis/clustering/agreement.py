"""How clusters agree: with the pattern types by rules, over seeds, and over halves of the samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import xlogy

from indexscope.analysis.clustering.lloyd import fitted, nearest
from indexscope.analysis.clustering.pattern_types import TYPES
from indexscope.analysis.clustering.tables import AGREEMENT
from indexscope.analysis.metrics.ratios import share_table
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.resampling import Array, ratio, resample_counts

FITS = 5
SPLITS = 6
STABILITY = ("seeds_mean", "seeds_min", "halves_mean", "halves_min", "found_again")


def agreement(pairs: Array, settings: BootstrapSettings) -> pl.DataFrame:
    """Pattern types of each cluster, the pairs that occur.

    Args:
        pairs: Maps by sample, cluster and pattern type, [samples, clusters, types].
        settings: The bootstrap over samples.

    Returns:
        cluster, pattern_type, share of the cluster's maps with its interval, count, n (samples with maps in the
        cluster); sorted.
    """
    clusters, types = np.nonzero(pairs.sum(axis=0))
    groups = pl.DataFrame(
        {
            "cluster": clusters,
            "pattern_type": pl.Series([TYPES[place] for place in types], dtype=AGREEMENT.schema["pattern_type"]),
        },
        schema_overrides={"cluster": pl.Int16},
    )
    own = pairs[:, clusters, types]
    shares = share_table(groups, own, pairs.sum(axis=2)[:, clusters], settings)
    return AGREEMENT.shaped(shares.with_columns(count=pl.Series(own.sum(axis=0), dtype=pl.Float64)))


def adjusted_rand(tables: Array) -> Array:
    """Adjusted Rand index of rows and columns of contingency tables (Hubert and Arabie 1985, equation 5).

    Args:
        tables: Counts, [..., rows, columns].

    Returns:
        [...]; NaN where all are in one row and one column.
    """
    both = _pairs(tables).sum(axis=(-2, -1))
    first, second = _pairs(tables.sum(axis=-1)).sum(axis=-1), _pairs(tables.sum(axis=-2)).sum(axis=-1)
    total = _pairs(tables.sum(axis=(-2, -1)))
    chance = ratio(first, total) * second
    index = ratio(both - chance, (first + second) / 2 - chance)
    # Without a pair in any group on either side (every map alone) the groups are the same, and the quotient is 0 / 0.
    return np.where(_constant(tables), np.nan, np.where((both == first) & (both == second), 1.0, index))


def mutual_information(tables: Array) -> Array:
    """Mutual information over the larger of the two entropies (Vinh, Epps and Bailey 2010, NMI_max).

    What rows and columns tell of each other, as the share of all that either tells: at least so much of each.

    Args:
        tables: Counts, [..., rows, columns].

    Returns:
        [...], 0 to 1; NaN where all are in one row and one column.
    """
    shares = ratio(tables, tables.sum(axis=(-2, -1), keepdims=True))
    joint = -xlogy(shares, shares).sum(axis=(-2, -1))
    first, second = (-xlogy(side, side).sum(axis=-1) for side in (shares.sum(axis=-1), shares.sum(axis=-2)))
    index = ratio(first + second - joint, np.maximum(first, second))
    return np.where(_constant(tables), np.nan, np.clip(index, 0.0, 1.0))


#: Metric to the function of contingency tables that it is.
AGREEMENTS: Mapping[str, Callable[[Array], Array]] = {
    "rule_agreement": adjusted_rand,
    "rule_information": mutual_information,
}


def resampled(pairs: Array, settings: BootstrapSettings) -> tuple[Array, Array]:
    """The metrics in AGREEMENTS of all samples and of resamples of them; a resample's table is a sum of its samples'.

    Args:
        pairs: Maps by sample, cluster and pattern type, [samples, clusters, types].
        settings: The bootstrap over samples.

    Returns:
        Estimates, [metrics], and replicates, [resamples, metrics].
    """
    flat = pairs.reshape(len(pairs), -1)
    blocks = [
        (counts @ flat).reshape(-1, *pairs.shape[1:])
        for counts in resample_counts(len(pairs), settings.resamples, settings.seed)
    ]
    estimates = [measure(pairs.sum(axis=0)) for measure in AGREEMENTS.values()]
    replicates = [np.stack([measure(tables) for measure in AGREEMENTS.values()], axis=1) for tables in blocks]
    return np.array(estimates, dtype=np.float64), np.concatenate(replicates)


def _pairs(counts: Array) -> Array:
    """Pairs within groups of these sizes."""
    return np.asarray(counts * (counts - 1) / 2)


def _constant(tables: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.asarray((tables > 0).sum(axis=(-2, -1)) <= 1)


@dataclass(frozen=True)
class Halves:
    """Rows of either half of the samples.

    Attributes:
        first: Rows of the one, [rows of it, features].
        second: Rows of the other.
        distinct: How many distinct rows there are in the half that has fewer.
    """

    first: Array
    second: Array
    distinct: int


def halves(rows: Array, samples: NDArray[np.int64], seed: int) -> list[Halves]:
    """Random splits of the samples into two halves, the same for every number of clusters.

    Args:
        rows: [rows, features].
        samples: Sample of each row.
        seed: Another seed splits otherwise.
    """
    random = np.random.default_rng(seed)
    ids = np.unique(samples)
    found = []
    for _ in range(SPLITS):
        first = np.isin(samples, random.permutation(ids)[: len(ids) // 2])
        parts = rows[first], rows[~first]
        found.append(Halves(*parts, min(len(np.unique(part, axis=0)) for part in parts)))
    return found


def stability(
    rows: Array, splits: Sequence[Halves], labels: NDArray[np.integer], k: int, seed: int
) -> dict[str, float | None]:
    """How well fits that should agree do, by what sets them apart.

    Args:
        rows: [rows, features], in the space of the distances.
        splits: `halves` of these rows.
        labels: Cluster of each row in the fit that is judged.
        k: Number of clusters.
        seed: Where the seeds start.

    Returns:
        seeds_mean and seeds_min, of the adjusted Rand index (Hubert and Arabie 1985) over all pairs of five fits with
        other seeds; halves_mean and halves_min over six random splits of the samples into two halves: k-means on
        either half groups all rows; found_again, the least over the judged clusters of their mean Jaccard index with
        the most similar cluster of either half (Hennig 2007). None for k = 1, and for halves that hold fewer distinct
        rows than clusters.
    """
    if k < 2:
        return dict.fromkeys(STABILITY)
    fits = [fitted(rows, k, seed + 1 + number).labels for number in range(FITS)]
    seeds = [_alike(one, other, k) for one, other in combinations(fits, 2)]
    agreed, again = [], []
    for split in splits:
        if split.distinct >= k:
            one, other = (nearest(rows, fitted(part, k, seed).centres)[0] for part in (split.first, split.second))
            agreed.append(_alike(one, other, k))
            again += [_nearest_jaccard(labels, found, k) for found in (one, other)]
    return {
        "seeds_mean": float(np.mean(seeds)),
        "seeds_min": float(min(seeds)),
        "halves_mean": float(np.mean(agreed)) if agreed else None,
        "halves_min": float(min(agreed)) if agreed else None,
        "found_again": float(np.mean(again, axis=0).min()) if again else None,
    }


def _shared(one: NDArray[np.integer], other: NDArray[np.integer], k: int) -> NDArray[np.int64]:
    """Rows of each pair of clusters, [k, k]."""
    return np.bincount(one.astype(np.int64) * k + other, minlength=k * k).reshape(k, k)


def _alike(one: NDArray[np.integer], other: NDArray[np.integer], k: int) -> float:
    """Adjusted Rand index of two groupings; 1 where both have all rows in one cluster."""
    index = float(adjusted_rand(_shared(one, other, k).astype(np.float64)))
    return 1.0 if np.isnan(index) else index


def _nearest_jaccard(labels: NDArray[np.integer], found: NDArray[np.integer], k: int) -> Array:
    """Of each cluster, the Jaccard index of its rows with those of the found cluster that shares most, [k]."""
    both = _shared(labels, found, k)
    either = both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both
    return np.asarray(ratio(both, either).max(axis=1))
