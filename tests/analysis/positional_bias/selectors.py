"""The ``positions`` table of planted selectors, without loops over keys; every query sees all keys up to itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tests.analysis.planted import POSITIONS

Selector = Callable[[np.random.Generator, NDArray[np.int64], NDArray[np.int64], int], NDArray[np.bool_]]


def at_random(random: np.random.Generator, t: NDArray[np.int64], s: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    score = np.where(s <= t, random.random((len(t), s.shape[1])), -1.0)
    return chosen(score, k) & (s <= t)


def nearest(random: np.random.Generator, t: NDArray[np.int64], s: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    return (t - s >= 0) & (t - s < k)


def first(random: np.random.Generator, t: NDArray[np.int64], s: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    return (s < k) & (s <= t)


def chosen(score: NDArray[np.float64], k: int) -> NDArray[np.bool_]:
    places = np.argpartition(-score, min(k, score.shape[1] - 1), axis=1)[:, :k]
    selected = np.zeros(score.shape, dtype=bool)
    np.put_along_axis(selected, places, True, axis=1)
    return selected


def table(
    selector: Selector,
    lengths: list[int],
    k: int,
    seed: int = 0,
    layers: int = 1,
    attention: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]] | None = None,
) -> pl.DataFrame:
    """Rows of all samples; ``attention`` gives unnormalised weights of (t, s), by default uniform ones."""
    random = np.random.default_rng(seed)
    rows = []
    for sample, length in enumerate(lengths):
        t, s = np.arange(k, length)[:, None], np.arange(length)[None, :]
        if not len(t):
            continue
        n, seen = t + 1, s <= t
        weights = (np.ones(seen.shape) if attention is None else attention(t, s)) * seen
        p = weights / weights.sum(axis=1, keepdims=True)
        place = np.frexp(np.maximum(t - s, 0))[1] * 10 + np.minimum(10 * s // n, 9)
        for layer in range(layers):
            selected = selector(random, t, s, k) & seen
            taken = selected.sum(axis=1, keepdims=True) / n
            counts = [
                np.bincount(place[seen], np.broadcast_to(part, seen.shape)[seen])
                for part in (selected * 1.0, taken, p, 1.0 / n)
            ]
            for cell in np.flatnonzero(counts[3]).tolist():
                rows.append((sample, layer, *divmod(cell, 10), len(t), *(float(part[cell]) for part in counts)))
    return pl.DataFrame(rows, schema=POSITIONS, orient="row")
