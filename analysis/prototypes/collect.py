"""Small pictures of attention maps, of some heads of every sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.closeup.collect import CloseupSample, Collected, Maker, Tables
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.columns import of, places, table_of

BINS = 48
"""Equal parts of the sequence that a map's keys are summed up in."""
MOST = 16_384
"""Maps that are kept of all samples together: 3 KiB each at 32 queries, 48 MiB in all."""
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


def map_collector(samples: Sequence[int], most: int = MOST) -> Maker:
    """Collects the table ``attention_maps``: dense attention of some heads of every sample at the sampled queries.

    One row a query; ``map`` holds BINS little-endian float16 numbers, the attention on each of BINS equal parts of the
    sequence (part b holds the keys s with floor(BINS s / length) = b), and ``kept`` the same of the selected keys
    alone, null where it leaves nothing out or differs between heads. With heads of all layers counted f = 0, 1, ...,
    of the i-th sample those are kept whose f + i is a multiple of the smallest step that keeps no more than ``most``
    maps: every head of a few samples, as many heads of each, and all where there is room.

    Args:
        samples: Indices of all samples that will be seen.
        most: Maps to keep of all samples together (a remainder may add one a sample).
    """
    places = {index: place for place, index in enumerate(samples)}
    return lambda sample: _Maps(sample, places[sample.index], len(places), most)


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


class _Maps:
    def __init__(self, sample: CloseupSample, place: int, samples: int, most: int) -> None:
        self.sample, self.place, self.samples, self.most = sample, place, samples, most
        self.rows: list[tuple[object, ...]] = []

    def add(self, layers: Sequence[CloseupRows]) -> None:
        """Keep the maps of one chunk, which has all layers."""
        length = len(self.sample.input_ids)
        step = max(1, -(-self.samples * sum(rows.head_p.shape[0] for rows in layers) // self.most))
        first = self.place
        for rows in layers:
            heads = list(range(-first % step, rows.head_p.shape[0], step))
            first += rows.head_p.shape[0]
            if not heads:
                continue
            attention = rows.head_p[heads]
            found = pooled(attention.cpu().numpy(), length).astype("<f2")
            kept = None
            if rows.selected is not None:
                kept = pooled((attention * rows.selected).cpu().numpy(), length).astype("<f2")
            queries, known = rows.query.tolist(), rows.in_effect.tolist()
            for place, head in enumerate(heads):
                self.rows += [
                    (
                        *(self.sample.index, rows.layer, head, length, query),
                        found[place, row].tobytes(),
                        kept[place, row].tobytes() if kept is not None and known[row] else None,
                    )
                    for row, query in enumerate(queries)
                ]

    def tables(self) -> Tables:
        """``attention_maps``."""
        return {
            "attention_maps": pl.DataFrame(self.rows, schema=MAPS.schema, orient="row").sort("layer", "head", "query")
        }


CLOSEUP = Collected({"attention_maps": MAPS}, lambda look: (map_collector([sample.index for sample in look.samples]),))
