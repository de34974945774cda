"""Columns, diagonals and blocks of an attention map: what tells vertical, slash and block patterns apart."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.features.tiles import FIRST_QUERY, PHASES, contrasts, count_queries, strongest
from indexscope.columns import names, of

if TYPE_CHECKING:
    import torch

    from indexscope.analysis.features.block_sums import BlockSums
    from indexscope.analysis.features.rows import AttentionRows

COLUMNS = 4
NEAREST_SLASH = 2
#: Columns of the table of heads, in the order of `MapShape.features`.
SHAPES = (
    *of(
        pl.Float32,
        "share",
        "queries",
        vertical_mass="Attention on the most attended columns of the map, sinks aside.",
        slash_mass="Attention on the most attended diagonals of the map.",
    ),
    *of(pl.Float32, "tokens", "queries", slash_distance="Distance of the most attended diagonal."),
    *of(
        pl.Float32,
        "share",
        "queries",
        block_mass="Attention on whole aligned blocks of keys; null in samples too short to tell.",
    ),
    *of(
        pl.Float32,
        "keys",
        "queries",
        block_size="Size of those blocks: the one of 16, 32, 64, 128, 256 and 512 that shows most.",
    ),
)


class MapShape:
    """Attention summed by key, by exact distance and by block over a whole sequence, never holding the map itself.

    Args:
        batch: Sequences.
        heads: Attention heads.
        length: Tokens of the sequences.
        device: Where the attention lives.
    """

    def __init__(self, batch: int, heads: int, length: int, device: torch.device) -> None:
        import torch

        self.by_key = torch.zeros((batch, heads, length), dtype=torch.float32, device=device)
        self.by_distance = torch.zeros_like(self.by_key)
        self.contrast = torch.zeros((batch, heads, PHASES), dtype=torch.float64, device=device)
        self.queries = np.zeros(batch, dtype=np.int64)
        self.tiled = np.zeros((batch, PHASES), dtype=np.int64)
        self.defined = True
        self._found: dict[str, torch.Tensor] | None = None

    def settle(self, sink_keys: int) -> None:
        """Keep the features and let go of the sums, which are as long as the sequences: nothing is added any more."""
        self._found = self.features(sink_keys)
        self.by_key, self.by_distance = self.by_key[..., :0].clone(), self.by_distance[..., :0].clone()

    def count(self, eligible: NDArray[np.int64], start: int) -> None:
        """Count queries from position 16 on that see a key; n_t is [batch, queries], of queries from start on."""
        self.queries += (eligible[:, max(0, FIRST_QUERY - start) :] > 0).sum(1)
        self.tiled += count_queries(eligible, start)

    def add(self, rows: AttentionRows) -> None:
        """Add the queries from position 16 on."""
        start = int(rows.position[0])
        self.count(rows.n.expand(rows.p.shape[0], -1).long().cpu().numpy(), start)
        self.defined &= rows.all_tokens
        p = rows.p[:, :, max(0, FIRST_QUERY - start) :]
        if p.shape[2] == 0 or not rows.all_tokens:
            return
        self.by_key.index_add_(2, rows.keys, p.sum(2))
        self.contrast += contrasts(rows)
        if not rows.in_order:
            distance = rows.distance[-p.shape[2] :].clamp(min=0)
            self.by_distance.index_add_(2, distance.flatten(), p.flatten(2))
            return
        # Keys after the last query hold nothing.
        p = p[..., : p.shape[3] - (int(rows.keys[-1]) - int(rows.position[-1]))]
        reach = min(p.shape[3], self.by_distance.shape[-1])
        self.by_distance[..., :reach] += _by_distance(p)[..., :reach]

    def add_block(self, item: int, block: BlockSums) -> None:
        """Add a block's sums for one item of the batch."""
        last = block.first_key + block.by_key.shape[1]
        self.by_key[item, :, block.first_key : last].numpy()[...] += block.by_key
        self.contrast[item].numpy()[...] += block.contrast
        nearest, farthest = block.last_query - last + 1, block.last_query - block.first_key
        self.by_distance[item, :, nearest : farthest + 1].numpy()[...] += block.by_slope[:, ::-1]

    def up_to(self, length: int) -> MapShape:
        """The same of sequences of that length, once their queries were added and before others are."""
        found = copy(self)
        found.by_key, found.by_distance = self.by_key[..., :length], self.by_distance[..., :length]
        return found

    def features(self, sink_keys: int) -> dict[str, torch.Tensor]:
        """What columns, diagonals and blocks hold (shares of all attention), [batch, heads]; NaN without queries.

        vertical_mass is what the four most attended keys after the sinks hold; slash_mass what the strongest single
        distance of at least 2 holds, slash_distance; block_mass what is spread over whole aligned blocks of
        block_size keys (`indexscope.analysis.features.tiles`), NaN in sequences of fewer than 64 tokens. NaN too where
        some keys are no tokens.
        """
        import torch

        if self._found is not None:
            return self._found
        length = self.by_key.shape[-1]
        if not self.queries.any() or not self.defined or length <= NEAREST_SLASH:
            nothing = torch.full(self.by_key.shape[:2], torch.nan)
            return dict.fromkeys(names(SHAPES), nothing)
        queries = torch.from_numpy(self.queries).to(self.by_key)[:, None]
        columns = self.by_key[..., sink_keys:].topk(max(0, min(COLUMNS, length - sink_keys)), dim=-1).values
        slash = self.by_distance[..., NEAREST_SLASH:].max(-1)
        found = (
            *(columns.sum(-1) / queries, slash.values / queries, (slash.indices + NEAREST_SLASH).float()),
            *strongest(self.contrast, self.tiled),
        )
        return {name: value.cpu() for name, value in zip(names(SHAPES), found, strict=True)}


def _by_distance(p: torch.Tensor) -> torch.Tensor:
    """Sum p [batch, heads, queries, keys] along its diagonals: [batch, heads, keys], distance 0 first.

    The last query's own key is the last key. Read with a row stride one longer than a row, the diagonals of the map
    are columns; zeros before each row stand for the keys that its diagonal does not reach.
    """
    batch, heads, queries, keys = p.shape
    width = keys + queries
    padded = p.new_zeros((batch, heads, queries, width))
    padded[..., queries:] = p
    skewed = padded.as_strided(
        (batch, heads, queries, keys), (padded.stride(0), padded.stride(1), width + 1, 1), storage_offset=1
    )
    # Column m of row i holds key i + m + 1 - queries, which is keys - 1 - m before query i's own key.
    return skewed.sum(2).flip(-1)
