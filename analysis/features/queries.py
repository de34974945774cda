"""Which queries of a sample are looked at where all would be too many, and how many each of them stands for.

The positions are cut into stretches of equal length, and one position of each is drawn for each sample anew. So a mean
over the drawn queries, weighted by the lengths of their stretches, is off by chance alone: fixed places are off by what
the stretches' means differ from their values there, and by whatever repeats with the position (blocks, pools, chunks).
No query weighs more than one query above the mean weight. `benchmarks/query_sampling.py` holds other ways against it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STEP, _FIRST, _SECOND = (np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def sampled_queries(length: int, count: int, sample: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the queries of a sample that are looked at, and the queries that each stands for.

    Both follow from the arguments alone, whatever the model, so that models can be compared query by query. Stretch i
    is ⌊i L / m⌋ to ⌊(i + 1) L / m⌋ - 1, with m the count or the length if that is less. Its query is the one of least
    rank, in an order of all positions that is random but the same for every count: where the stretches of one count
    are divided by another's, all queries of the first are among those of the second.

    Args:
        length: L, tokens of the sample.
        count: Queries to look at, at most; a sample that has no more is looked at whole.
        sample: Index of the sample in its dataset, which seeds the order.

    Returns:
        Positions, ascending, and the lengths of their stretches, which add up to L; [m] each.

    >>> [part.tolist() for part in sampled_queries(512, 4, 0)]
    [[53, 254, 366, 410], [128, 128, 128, 128]]
    """
    stretches = min(length, count)
    if not stretches:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    edges = np.arange(stretches + 1, dtype=np.int64) * length // stretches
    sizes = np.diff(edges)
    rank = _ranks(length, sample)
    least = np.minimum.reduceat(rank, edges[:-1])
    return np.flatnonzero(rank == np.repeat(least, sizes)), sizes


def _ranks(length: int, sample: int) -> NDArray[np.uint64]:
    """A random number of each position, no two of a sample alike: SplitMix64, the same in every version of numpy."""
    place = np.arange(1, length + 1, dtype=np.uint64) + (np.uint64(sample) << np.uint64(32))
    mixed = place * _STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
