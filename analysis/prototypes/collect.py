"""Small pictures of attention maps, of some heads of every sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch

from indexscope.analysis.closeup.collect import CloseupSample, Collected, Maker, Tables
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.prototypes.maps import BINS, MAPS, pooled

MOST = 16_384
"""Maps that are kept of all samples together: 3 KiB each at 32 queries, 48 MiB in all."""


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


class _Maps:
    def __init__(self, sample: CloseupSample, place: int, samples: int, most: int) -> None:
        self.sample, self.place, self.samples, self.most = sample, place, samples, most
        self.places: list[tuple[int, int, int]] = []
        self.maps: list[bytes] = []
        self.kept: list[bytes | None] = []

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
            queries = rows.query.tolist()
            self.places += [(rows.layer, head, query) for head in heads for query in queries]
            self.maps += _maps(attention, length)
            if rows.selected is None:
                self.kept += [None] * len(heads) * len(queries)
            else:
                known = rows.in_effect.tolist() * len(heads)
                kept = zip(_maps(attention * rows.selected, length), known, strict=True)
                self.kept += [one if says else None for one, says in kept]

    def tables(self) -> Tables:
        """``attention_maps``."""
        layer, head, query = np.array(self.places, dtype=np.int64).reshape(-1, 3).T
        order = np.lexsort((query, head, layer))
        columns = {
            "sample": np.full(len(order), self.sample.index),
            "layer": layer[order],
            "head": head[order],
            "length": np.full(len(order), len(self.sample.input_ids)),
            "query": query[order],
            "map": [self.maps[place] for place in order.tolist()],
            "kept": [self.kept[place] for place in order.tolist()],
        }
        return {
            "attention_maps": MAPS.shaped(pl.DataFrame(columns, schema_overrides={"map": pl.Binary, "kept": pl.Binary}))
        }


def _maps(attention: torch.Tensor, length: int) -> list[bytes]:
    """Attention [heads, queries, keys] as maps, head by head."""
    halves = pooled(attention.cpu().numpy(), length).astype("<f2")
    size = BINS * halves.itemsize
    written = halves.tobytes()
    return [written[start : start + size] for start in range(0, len(written), size)]


CLOSEUP = Collected({"attention_maps": MAPS}, lambda look: (map_collector(look.samples),))
