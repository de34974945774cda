"""The selections of sampled queries, picked up chunk by chunk; `stored_selections` is how they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.features.queries import sampled_queries
from indexscope.analysis.features.stored_selections import ROW, SELECTIONS
from indexscope.analysis.statistics.varint import encode_rows


@dataclass(frozen=True)
class _Part:
    """What one layer selected for the sampled queries of one sample in one chunk; rows ordered by group and query."""

    sample: int
    layer: int
    unit: str
    group: NDArray[np.int64]
    query: NDArray[np.int64]
    weight: NDArray[np.int64]
    eligible: NDArray[np.int64]
    selected: NDArray[np.int64]
    keys: NDArray[np.int64]


class SelectionSampler:
    """Keeps what every layer selects for the sampled queries of a batch.

    Token positions are kept where the keys of the attention are tokens, also where the indexer scores pools or blocks
    of them: everything that the query attends to, forced keys included. Where entries are keys themselves (compressed
    ones), the chosen entries are kept by their index, and n_t counts the entries that were up for selection.

    Args:
        index: The batch's samples by their index in the dataset.
        length: Tokens of each.
        count: Queries to keep of each sample and layer; 0 keeps none.
    """

    def __init__(self, index: Sequence[int], length: int, count: int) -> None:
        self._queries = [(sample, *sampled_queries(length, count, sample)) for sample in index]
        self._parts: list[_Part] = []

    def add(self, chunk: AttentionChunk) -> None:
        """Take the sampled queries of one layer's chunk; a layer that selects nothing adds nothing."""
        if chunk.selected is None or (_compressed(chunk) and chunk.chosen is None):
            return
        end = chunk.start + chunk.selected.shape[2]
        for item, (sample, queries, weights) in enumerate(self._queries):
            here = slice(*np.searchsorted(queries, (chunk.start, end)))
            if len(queries[here]):
                self._parts.append(_part(chunk, item, sample, queries[here], weights[here]))

    def state(self) -> list[_Part]:
        """What was taken so far."""
        return self._parts

    def restore(self, state: list[_Part]) -> None:
        """Take up what another one took of the same samples."""
        self._parts = state

    def table(self) -> pl.DataFrame:
        """Per sample, layer, group and query that sees any key: n_t, k_t and its selected keys."""
        if not self._parts:
            return SELECTIONS.empty()
        rows = [len(part.query) for part in self._parts]

        def joined(name: str) -> NDArray[np.int64]:
            return np.concatenate([getattr(part, name) for part in self._parts])

        selected = joined("selected")
        columns = {
            "sample": np.repeat([part.sample for part in self._parts], rows),
            "layer": np.repeat([part.layer for part in self._parts], rows),
            "group": joined("group"),
            "query": joined("query"),
            "unit": np.repeat([part.unit for part in self._parts], rows),
            "eligible": joined("eligible"),
            "selected": selected,
            "weight": joined("weight"),
            "keys": encode_rows(joined("keys"), selected),
        }
        return pl.DataFrame(columns, schema=SELECTIONS.schema).filter(pl.col("eligible") > 0).sort(ROW)


def _part(
    chunk: AttentionChunk, item: int, sample: int, queries: NDArray[np.int64], weights: NDArray[np.int64]
) -> _Part:
    """Some queries of one sample, which is an item of the chunk's batch."""
    unit, chosen, eligible, names = _sampled(chunk, item, torch.from_numpy(queries - chunk.start))
    counts = np.broadcast_to(eligible, chosen.shape[:2])
    group, query = (place.ravel() for place in np.indices(counts.shape))
    keys = names[np.nonzero(chosen)[-1]]
    found = counts.ravel(), chosen.sum(-1).ravel(), keys
    return _Part(sample, chunk.layer, unit, group, queries[query], weights[query], *found)


def _sampled(
    chunk: AttentionChunk, item: int, rows: torch.Tensor
) -> tuple[str, NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Of some rows of an item: unit, mask [groups, rows, keys], n_t [1 or groups, rows], keys' names."""
    selected = chunk.selected
    assert selected is not None
    rows = rows.to(selected.device)
    if _compressed(chunk):
        assert chunk.chosen is not None and chunk.scores is not None
        mask, scores = (_of(_grouped(part), item)[:, rows] for part in (chunk.chosen, chunk.scores))
        eligible = (scores > -torch.inf).sum(-1)
        return "entry", mask.cpu().numpy(), eligible.cpu().numpy(), np.arange(mask.shape[-1])
    mask, eligible = _of(selected, item)[:, rows], _of(chunk.eligible, item)[:, rows].sum(-1)
    if chunk.positions is None:
        end = chunk.start + selected.shape[2]
        names = np.arange(end - selected.shape[3], end)
    else:
        names = chunk.positions.cpu().numpy()
    return "token", mask.cpu().numpy(), eligible.cpu().numpy(), names


def _of(values: torch.Tensor, item: int) -> torch.Tensor:
    """An item of a batch, of which one may stand for all."""
    return values[min(item, values.shape[0] - 1)]


def _compressed(chunk: AttentionChunk) -> bool:
    return chunk.entries is not None and chunk.entries.kind == "compressed"


def _grouped(entries: torch.Tensor) -> torch.Tensor:
    """Scores or a selection over entries with their dimension of groups."""
    return entries if entries.dim() == 4 else entries.unsqueeze(1)
