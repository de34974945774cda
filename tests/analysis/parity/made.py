"""Dumps made from a model: what it selects itself, as arrays that tests then change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.observers import capture_sparse
from indexscope.analysis.capture.protocol import as_source
from indexscope.analysis.features.rows import AttentionRows
from indexscope.analysis.parity.records import Dump, Dumped
from indexscope.storage.inputs.samples import Sample

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Seen:
    """What a model does in one layer of a sample: masks and numbers [tokens, tokens]."""

    selected: Array
    scores: Array
    attention: Array


def seen(model: Any, ids: Sequence[int], chunk: int = 16) -> list[Seen]:
    """Every layer of one sample, from the chunks themselves."""
    size = len(ids)
    layers: dict[int, tuple[Array, Array, Array]] = {}

    def observe(part: AttentionChunk) -> torch.Tensor:
        blank = (np.zeros((size, size), bool), np.full((size, size), -np.inf), np.zeros((size, size)))
        own = layers.setdefault(part.layer, blank)
        rows, keys = slice(part.start, part.start + part.query.shape[2]), part.eligible.shape[-1]
        assert part.selected is not None and part.scores is not None
        own[0][rows, :keys] = part.selected[0, 0].numpy()
        own[1][rows, :keys] = part.scores[0].double().numpy()
        own[2][rows, :keys] = AttentionRows(part).mean[0].double().numpy()
        return capture_sparse(part)

    for _ in as_source(model).run(torch.tensor([list(ids)]), observe, chunk):
        pass
    return [Seen(*layers[layer]) for layer in sorted(layers)]


def rows_of(layers: Sequence[Seen], width: int) -> Array:
    """Selections as a dump holds them, [tokens, layers, width], -1 for no key."""
    size = len(layers[0].selected)
    rows = np.full((size, len(layers), width), -1, np.int32)
    for query in range(size):
        for place, layer in enumerate(layers):
            keys = np.flatnonzero(layer.selected[query])
            rows[query, place, : len(keys)] = keys
    return rows


class Counted:
    """Rows of an array that count how many are held at once."""

    def __init__(self, rows: Array) -> None:
        self.rows, self.most = rows, 0

    def read(self, first: int, last: int) -> Array:
        self.most = max(self.most, last - first)
        return self.rows[first:last]


def dumped(rows: Array, first: int = 0, tokens: int | None = None, named: tuple[int, ...] | None = None) -> Dumped:
    """A record of these rows."""
    count = len(rows) + first if tokens is None else tokens
    return Dumped("record", count, first, len(rows), rows.shape[1], named, lambda: Counted(rows))


def dump_of(
    model: Any, samples: Sequence[Sample], width: int, change: Callable[[Array], None] = lambda rows: None
) -> Dump:
    """A dump of what a model selects of each sample, changed in place."""
    found: Mapping[int, Array] = {one.index: rows_of(seen(model, one.input_ids), width) for one in samples}
    for rows in found.values():
        change(rows)
    return {index: dumped(rows) for index, rows in found.items()}
