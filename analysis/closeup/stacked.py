"""The sampled queries of several layers below each other, so that many small layers cost little more than one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.rows import CloseupRows, Selecting

# Entries (queries x indexer heads x keys) that are put together at once; a layer that has more stays alone.
_ENTRIES = {"cpu": 1 << 20, "cuda": 1 << 24}


@dataclass(frozen=True)
class Stacked(Selecting):
    """R queries of layers that show the same: K keys, J indexer heads.

    Attributes:
        layer: Layer of each query, [R], int64; layers come one after the other.
        whole: Whether the layers select for all heads alike, or do not select at all.

    All others are those of `CloseupRows`, with R queries in place of Q.
    """

    layer: NDArray[np.int64]
    whole: bool
    query: torch.Tensor
    weight: torch.Tensor
    n: torch.Tensor
    p: torch.Tensor
    eligible: torch.Tensor
    selected: torch.Tensor | None
    scores: torch.Tensor | None
    head_scores: torch.Tensor | None
    head_weights: torch.Tensor | None

    def of(self, kept: torch.Tensor) -> Stacked:
        """Some of the queries, by a mask [R]."""
        parts = {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        some: dict[str, Any] = {name: value[kept.to(value.device)] for name, value in parts.items()}
        return replace(self, layer=self.layer[kept.cpu().numpy()], **some)


def stacked(layers: Sequence[CloseupRows]) -> Iterator[Stacked]:
    """The layers of a chunk in their order, as many together as show the same and fit."""
    for _, alike in groupby(layers, _shown):
        some = list(alike)
        entries = some[0].p.numel() if some[0].head_scores is None else some[0].head_scores.numel()
        step = max(1, _ENTRIES.get(some[0].p.device.type, 1 << 20) // max(1, entries))
        for first in range(0, len(some), step):
            yield _below_each_other(some[first : first + step])


def by_layer(layer: NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """The stretches of rows that belong to one layer each."""
    starts = np.flatnonzero(np.diff(layer, prepend=-1))
    ends = np.flatnonzero(np.diff(layer, append=-1)) + 1
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        yield int(layer[start]), slice(start, end)


def _shown(rows: CloseupRows) -> tuple[object, ...]:
    parts = (rows.selected, rows.scores, rows.head_scores, rows.head_weights)
    shapes = tuple(None if part is None else part.shape for part in parts)
    return rows.p.shape, rows.p.device, _whole(rows), *shapes


def _whole(rows: CloseupRows) -> bool:
    return rows.selected is not None or not rows.selects


def _below_each_other(layers: Sequence[CloseupRows]) -> Stacked:
    def all_of(name: str) -> torch.Tensor:
        parts = [getattr(rows, name) for rows in layers]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def known(name: str) -> torch.Tensor | None:
        return None if getattr(layers[0], name) is None else all_of(name)

    return Stacked(
        layer=np.repeat([rows.layer for rows in layers], len(layers[0].query)),
        whole=_whole(layers[0]),
        query=all_of("query"),
        weight=all_of("weight"),
        n=all_of("n"),
        p=all_of("p"),
        eligible=all_of("eligible"),
        selected=known("selected"),
        scores=known("scores"),
        head_scores=known("head_scores"),
        head_weights=known("head_weights"),
    )
