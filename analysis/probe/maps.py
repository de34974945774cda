"""Small pictures of attention maps, of a few samples."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.probe.collect import Maker, ProbedSample, Tables
from analysis.probe.rows import ProbeRows

BINS = 48
"""Equal parts of the sequence that a map's keys are summed up in."""
MAPS: dict[str, type[pl.DataType]] = {
    "sample": pl.Int32,
    "layer": pl.Int16,
    "head": pl.Int16,
    "length": pl.Int32,
    "query": pl.Int32,
    "map": pl.Binary,
}


def map_collector(samples: Collection[int]) -> Maker:
    """Collects the table ``attention_maps``: dense attention of every head at the probed queries.

    One row a query; ``map`` holds BINS little-endian float16 numbers, the attention on each of BINS equal parts of the
    sequence (part b holds the keys s with floor(BINS s / length) = b).

    Args:
        samples: The samples whose maps are kept; others give no rows.
    """
    shown = frozenset(samples)
    return lambda sample: _Maps(sample, sample.index in shown)


def pooled(attention: NDArray[np.float32], length: int) -> NDArray[np.float64]:
    """Attention [..., keys] on each part of a sequence of this length, [..., BINS]."""
    keys = attention.shape[-1]
    part = np.arange(keys) * BINS // length
    sums = np.zeros((*attention.shape[:-1], BINS))
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    sums[..., part[starts]] = np.add.reduceat(attention.astype(np.float64), starts, axis=-1)
    return sums


def unpacked(maps: Sequence[bytes]) -> NDArray[np.float64]:
    """Stored maps as numbers, [rows, BINS]."""
    return np.frombuffer(b"".join(maps), dtype="<f2").reshape(len(maps), BINS).astype(np.float64)


class _Maps:
    def __init__(self, sample: ProbedSample, shown: bool) -> None:
        self.sample, self.shown = sample, shown
        self.rows: list[tuple[object, ...]] = []

    def add(self, layers: Sequence[ProbeRows]) -> None:
        """Keep the maps of one chunk."""
        length = len(self.sample.input_ids)
        for rows in layers if self.shown else ():
            found = pooled(rows.head_p.cpu().numpy(), length).astype("<f2")
            for head in range(found.shape[0]):
                self.rows += [
                    (self.sample.index, rows.layer, head, length, int(query), found[head, place].tobytes())
                    for place, query in enumerate(rows.query.tolist())
                ]

    def tables(self) -> Tables:
        """``attention_maps``."""
        return {"attention_maps": pl.DataFrame(self.rows, schema=MAPS, orient="row").sort("layer", "head", "query")}
