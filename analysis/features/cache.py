"""The keys that earlier queries selected, carried over chunks, so that no feature depends on where chunks end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.features.kernels.cache import cache_hits

# Of the largest cache that is asked about.
_TIMES = 4


@dataclass
class _Used:
    """Keys of one sequence and group in the order of their last use, and how many the query before selected."""

    order: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    state: NDArray[np.int64] = field(default_factory=lambda: np.array([0, -1]))

    def follow(self, selected: NDArray[np.uint8], first_key: int) -> NDArray[np.float32]:
        most = max(len(self.order), _TIMES * int(selected.sum(-1, dtype=np.int64).max()))
        order, after = np.empty((2, most), dtype=np.int64)
        order[: len(self.order)] = self.order
        hits = np.full((3, len(selected)), np.nan, dtype=np.float32)
        cache_hits(selected, first_key, order, after, self.state, hits)
        self.order = order
        return hits


@dataclass
class _Layer:
    """How far a layer was followed: what was used in it, by item and group, and whether it was seen from its start."""

    end: int
    whole: bool
    used: list[list[_Used]]


class KeyCaches:
    """Follows the selections of each layer from chunk to chunk. Chunks of a layer come in order."""

    def __init__(self) -> None:
        self._layers: dict[int, _Layer] = {}

    def followed(self, chunk: AttentionChunk) -> AttentionChunk:
        """The chunk with `hits`, where it has a selection and keys are tokens in order."""
        if chunk.selected is None or chunk.positions is not None:
            return chunk
        batch, groups, queries, keys = chunk.selected.shape
        layer = self._layers.get(chunk.layer)
        if layer is None or layer.end != chunk.start:
            used = [[_Used() for _ in range(groups)] for _ in range(batch)]
            layer = self._layers[chunk.layer] = _Layer(chunk.start, chunk.start == 0, used)
        layer.end += queries
        selected = chunk.selected.contiguous().view(torch.uint8).cpu().numpy()
        first_key = chunk.start + queries - keys
        hits = np.stack(
            [
                np.stack([used.follow(selected[item, group], first_key) for group, used in enumerate(of_item)])
                for item, of_item in enumerate(layer.used)
            ]
        )
        if not layer.whole:  # of a cache that was filled before, nothing is known
            hits[:, :, 1:] = np.nan
        return replace(chunk, hits=torch.from_numpy(hits.mean(1)).to(chunk.selected.device))
