"""How small pictures of attention maps are stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.columns import of, places, table_of

BINS = 48
"""Equal parts of the sequence that a map's keys are summed up in."""
LENGTH = of(pl.Int32, "tokens", length="Length of the sample.")
MAPS = table_of(
    "sample, layer, head, query",
    "sample layer head query",
    LENGTH,
    places("query"),
    of(
        pl.Binary,
        map="48 little-endian float16 numbers: dense attention on 48 equal parts of the sequence.",
        kept="The same of the selected keys alone; null where the selection leaves nothing out or is not known.",
    ),
)


def pooled(attention: NDArray[np.float32], length: int, bins: int = BINS) -> NDArray[np.float64]:
    """Attention [..., keys] on each of equally many parts of a sequence of this length, [..., bins]."""
    keys = attention.shape[-1]
    part = np.arange(keys) * bins // length
    sums = np.zeros((*attention.shape[:-1], bins))
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    sums[..., part[starts]] = np.add.reduceat(attention.astype(np.float64), starts, axis=-1)
    return sums


def unpacked(maps: Sequence[bytes]) -> NDArray[np.float64]:
    """Stored maps as numbers, [rows, BINS]."""
    return np.frombuffer(b"".join(maps), dtype="<f2").reshape(len(maps), BINS).astype(np.float64)
