"""The selections of sampled queries, picked up chunk by chunk; `stored_selections` is how they are kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.features.stored_selections import ROW, SELECTIONS, sampled_queries
from indexscope.analysis.statistics.varint import encode_rows


@dataclass(frozen=True)
class _Part:
    """What one layer selected for the sampled queries of one chunk; rows ordered by batch, group and query."""

    layer: int
    unit: str
    item: NDArray[np.int64]
    group: NDArray[np.int64]
    query: NDArray[np.int64]
    eligible: NDArray[np.int64]
    selected: NDArray[np.int64]
    keys: NDArray[np.int64]


class SelectionSampler:
    """Keeps what every layer selects for the sampled queries of a batch.

    Token positions are kept where the keys of the attention are tokens, also where the indexer scores pools or blocks
    of them: everything that the query attends to, forced keys included. Where entries are keys themselves (compressed
    ones), the chosen entries are kept by their index, and n_t counts the entries that were up for selection.

    Args:
        batch: Sequences of the batch.
        length: Tokens of the sequences.
        count: Queries to keep of each sequence and layer; 0 keeps none.
    """

    def __init__(self, batch: int, length: int, count: int) -> None:
        self.batch = batch
        self.queries = sampled_queries(length, count)
        self._parts: list[_Part] = []

    def add(self, chunk: AttentionChunk) -> None:
        """Take the sampled queries of one layer's chunk; a layer that selects nothing adds nothing."""
        if chunk.selected is None or (_compressed(chunk) and chunk.chosen is None):
            return
        first, last = np.searchsorted(self.queries, (chunk.start, chunk.start + chunk.selected.shape[2]))
        queries = self.queries[first:last]
        if len(queries) == 0:
            return
        unit, mask, eligible, names = _sampled(chunk, torch.from_numpy(queries - chunk.start))
        chosen = np.broadcast_to(mask, (self.batch, *mask.shape[1:]))
        counts = np.broadcast_to(eligible, chosen.shape[:3])
        item, group, query = np.indices(counts.shape)
        part = _Part(
            chunk.layer,
            unit,
            item.ravel(),
            group.ravel(),
            queries[query.ravel()],
            counts.ravel(),
            chosen.sum(-1).ravel(),
            names[np.nonzero(chosen)[-1]],
        )
        self._parts.append(part)

    def table(self, index: list[int]) -> pl.DataFrame:
        """Per sample, layer, group and query that sees any key: n_t, k_t and its selected keys.

        Args:
            index: The batch's samples by their index in the dataset.
        """
        if not self._parts:
            return SELECTIONS.empty()
        rows = [len(part.item) for part in self._parts]

        def joined(name: str) -> NDArray[np.int64]:
            return np.concatenate([getattr(part, name) for part in self._parts])

        selected = joined("selected")
        columns = {
            "sample": np.asarray(index)[joined("item")],
            "layer": np.repeat([part.layer for part in self._parts], rows),
            "group": joined("group"),
            "query": joined("query"),
            "unit": np.repeat([part.unit for part in self._parts], rows),
            "eligible": joined("eligible"),
            "selected": selected,
            "keys": encode_rows(joined("keys"), selected),
        }
        return pl.DataFrame(columns, schema=SELECTIONS.schema).filter(pl.col("eligible") > 0).sort(ROW)


def _sampled(
    chunk: AttentionChunk, rows: torch.Tensor
) -> tuple[str, NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Of some rows: unit, mask [batch or 1, groups, rows, keys], n_t [batch or 1, 1 or groups, rows], keys' names."""
    selected = chunk.selected
    assert selected is not None
    rows = rows.to(selected.device)
    if _compressed(chunk):
        assert chunk.chosen is not None and chunk.scores is not None
        mask, scores = (_grouped(part)[:, :, rows] for part in (chunk.chosen, chunk.scores))
        eligible = (scores > -torch.inf).sum(-1)
        return "entry", mask.cpu().numpy(), eligible.cpu().numpy(), np.arange(mask.shape[-1])
    mask, eligible = selected[:, :, rows], chunk.eligible[:, :, rows].sum(-1)
    if chunk.positions is None:
        end = chunk.start + selected.shape[2]
        names = np.arange(end - selected.shape[3], end)
    else:
        names = chunk.positions.cpu().numpy()
    return "token", mask.cpu().numpy(), eligible.cpu().numpy(), names


def _compressed(chunk: AttentionChunk) -> bool:
    return chunk.entries is not None and chunk.entries.kind == "compressed"


def _grouped(entries: torch.Tensor) -> torch.Tensor:
    """Scores or a selection over entries with their dimension of groups."""
    return entries if entries.dim() == 4 else entries.unsqueeze(1)
