"""Columns and diagonals of an attention map: what tells a vertical from a slash pattern."""

from __future__ import annotations

import torch

from analysis.features.rows import AttentionRows

# Earlier queries see so few keys that any map looks like stripes.
FIRST_QUERY = 16
COLUMNS = 4
NEAREST_SLASH = 2


class MapShape:
    """Attention summed by key and by exact distance over a whole sequence, never holding the map itself.

    Args:
        batch: Sequences.
        heads: Attention heads.
        length: Tokens of the sequences.
        device: Where the attention lives.
    """

    def __init__(self, batch: int, heads: int, length: int, device: torch.device) -> None:
        self.by_key = torch.zeros((batch, heads, length), dtype=torch.float32, device=device)
        self.by_distance = torch.zeros_like(self.by_key)
        self.queries = 0

    def add(self, rows: AttentionRows) -> None:
        """Add the chunk's queries from position 16 on."""
        skip = max(0, FIRST_QUERY - rows.chunk.start)
        p = rows.p[:, :, skip:]
        queries, keys = p.shape[2], p.shape[3]
        if queries <= 0:
            return
        first_key = int(rows.keys[0])
        self.by_key[..., first_key : first_key + keys] += p.sum(2)
        reach = min(keys, self.by_distance.shape[-1])
        self.by_distance[..., :reach] += _by_distance(p)[..., :reach]
        self.queries += queries

    def features(self, sink_keys: int) -> dict[str, torch.Tensor]:
        """vertical_mass, slash_mass (shares of all attention) and slash_distance, [batch, heads]; NaN without queries.

        vertical_mass is what the four most attended keys after the sinks hold; slash_mass what the strongest single
        distance of at least 2 holds.
        """
        if not self.queries:
            nothing = torch.full(self.by_key.shape[:2], torch.nan)
            return {"vertical_mass": nothing, "slash_mass": nothing, "slash_distance": nothing}
        columns = self.by_key[..., sink_keys:].topk(min(COLUMNS, self.by_key.shape[-1] - sink_keys), dim=-1).values
        slash = self.by_distance[..., NEAREST_SLASH:].max(-1)
        return {
            "vertical_mass": (columns.sum(-1) / self.queries).cpu(),
            "slash_mass": (slash.values / self.queries).cpu(),
            "slash_distance": (slash.indices + NEAREST_SLASH).float().cpu(),
        }


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
