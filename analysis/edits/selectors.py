"""Selectors that an edit lays over a layer in place of what its indexer selects, or where it has none."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from indexscope.analysis.capture.chunk import AttentionChunk, Entries
from indexscope.analysis.capture.selecting import OPERANDS, SELECTED, Carried, Selector, TakesOver
from indexscope.analysis.edits.edit import Block, Recent, TwoStage
from indexscope.analysis.edits.scoring import Operands, operands_of
from indexscope.analysis.features.rows import AttentionRows


@dataclass(frozen=True, kw_only=True)
class LaidOver:
    """What all selectors here have in common; see `indexscope.analysis.capture.selecting.Selector`.

    Attributes:
        layer: The layer's index.
        topk: Keys a query at most.
    """

    layer: int
    topk: int
    heads: int | None = None
    dim: int | None = None
    scorer: nn.Module | None = None

    @property
    def stages(self) -> tuple[int | None, int | None]:
        """See `indexscope.analysis.capture.selecting.Selector`."""
        return None, None

    def choose(self, chunk: AttentionChunk, carried: Carried) -> AttentionChunk:
        """The chunk with this selection, kept for the layers that share it."""
        chosen = self.chosen(chunk, carried)
        carried.layers[SELECTED, self.layer] = chosen.selected
        return chosen

    def chosen(self, chunk: AttentionChunk, carried: Carried) -> AttentionChunk:
        """The chunk with this selection."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Shared(LaidOver, TakesOver):
    """The selection of an earlier layer that a selector made.

    Attributes:
        source: That layer.
    """

    source: int

    def chosen(self, chunk: AttentionChunk, carried: Carried) -> AttentionChunk:
        """See `LaidOver`."""
        return _bare(chunk, carried.layers[SELECTED, self.source].to(chunk.eligible.device) & chunk.eligible)


class BestKeys(LaidOver):
    """The oracle: the k keys with the most dense attention, averaged over heads."""

    def chosen(self, chunk: AttentionChunk, carried: Carried) -> AttentionChunk:
        """See `LaidOver`."""
        return _bare(chunk, highest(AttentionRows(chunk).mean, chunk.eligible, self.topk))


@dataclass(frozen=True, kw_only=True)
class RandomKeys(LaidOver):
    """k eligible keys drawn evenly: which, depends on seed, layer and positions alone, and is one for all samples."""

    seed: int

    def chosen(self, chunk: AttentionChunk, carried: Carried) -> AttentionChunk:
        """See `LaidOver`."""
        queries, keys = chunk.eligible.shape[-2:]
        end = chunk.start + queries
        query = torch.arange(chunk.start, end, device=chunk.query.device)
        key = torch.arange(end - keys, end, device=chunk.query.device)
        drawn = scrambled(scrambled(scrambled(query + (self.seed << 20)) + self.layer)[:, None] + key)
        return _bare(chunk, highest(drawn[None], chunk.eligible, self.topk))


@dataclass(frozen=True, kw_only=True)
class RecentKeys(LaidOver):
    """The last keys and the first ones of E_t."""

    kind: Recent

    def chosen(self, chunk: AttentionChunk, carried: Carried) -> AttentionChunk:
        """See `LaidOver`."""
        place = chunk.eligible.cumsum(-1)
        near = place > place[..., -1:] - self.kind.window
        return _bare(chunk, chunk.eligible & (near | (place <= self.kind.sink)))


@dataclass(frozen=True, kw_only=True)
class ByScores(LaidOver):
    """What chooses by the index scores of the layer's own indexer, or of one that was fitted to it.

    Attributes:
        fitted: Gives the scores where the layer has no indexer of its own.
    """

    fitted: Selector | None = None

    def scored(self, chunk: AttentionChunk, carried: Carried) -> tuple[AttentionChunk, torch.Tensor]:
        """The chunk with index scores by key, -inf outside E_t, float32."""
        if self.fitted is not None:
            chunk = self.fitted.choose(chunk, carried)
        assert chunk.scores is not None  # of a layer whose indexer runs
        return chunk, chunk.scores.float().masked_fill(~chunk.eligible[:, 0], -torch.inf)


@dataclass(frozen=True, kw_only=True)
class BestBlocks(ByScores):
    """Whole blocks of keys, by the largest or the mean index score of their eligible keys; the query's own always."""

    kind: Block

    def chosen(self, chunk: AttentionChunk, carried: Carried) -> AttentionChunk:
        """See `LaidOver`; entries are the blocks, their scores the pooled ones."""
        (chunk, scores), size = self.scored(chunk, carried), self.kind.size
        spread = _in_blocks(scores, size, -torch.inf)
        if self.kind.pool == "max":
            pooled = spread.amax(-1)
        else:
            there = spread > -torch.inf
            pooled = spread.masked_fill(~there, 0.0).sum(-1) / there.sum(-1)
            pooled = pooled.masked_fill(~there.any(-1), -torch.inf)
        own = own_blocks(chunk, pooled.shape[-1], size)
        pooled = pooled.masked_fill(own, -torch.inf)
        kept = highest(pooled, (pooled > -torch.inf)[:, None], self.kind.keep - 1)[:, 0]
        block = torch.arange(scores.shape[-1], device=scores.device) // size
        always = own[:, block][None, None] & chunk.eligible
        first = torch.arange(0, scores.shape[-1], size, device=scores.device)[None]
        return replace(
            chunk,
            selected=(kept[..., block][:, None] & chunk.eligible) | always,
            scores=pooled,
            entries=Entries("block", first, (first + size - 1).clamp_max(scores.shape[-1] - 1)),
            chosen=kept,
            always=always,
            head_scores=None,
            head_weights=None,
        )


@dataclass(frozen=True, kw_only=True)
class BlocksThenKeys(ByScores):
    """Blocks by the index score of the mean of their indexer keys, then the k best keys in them.

    Attributes:
        indexer: The layer's own, under `watch_scoring`.
    """

    kind: TwoStage
    indexer: nn.Module | None

    @property
    def stages(self) -> tuple[int | None, int | None]:
        """See `indexscope.analysis.capture.selecting.Selector`."""
        return self.kind.block, self.kind.block * self.kind.keep

    def chosen(self, chunk: AttentionChunk, carried: Carried) -> AttentionChunk:
        """See `LaidOver`; scores of keys in dropped blocks are -inf, as they are not up for selection."""
        (chunk, scores), size = self.scored(chunk, carried), self.kind.block
        indexer = self.indexer
        found = Operands(*carried.layers[OPERANDS, chunk.layer]) if indexer is None else operands_of(indexer)
        count = -(-scores.shape[-1] // size)
        keys = _in_blocks(found.key.float().transpose(1, 2), size, 0.0)
        sizes = torch.full((count,), size, device=keys.device)
        sizes[-1] = scores.shape[-1] - size * (count - 1)
        means = (keys.sum(-1) / sizes).transpose(1, 2)
        heads = torch.relu(torch.einsum("bqhd,bnd->bqhn", found.query.float(), means))
        pooled = torch.einsum("bqh,bqhn->bqn", found.weights.float(), heads)
        own = own_blocks(chunk, count, size)
        block = torch.arange(scores.shape[-1], device=scores.device) // size
        before = torch.arange(count, device=scores.device) < own.int().argmax(-1, keepdim=True)
        kept = highest(pooled, before[None, None], self.kind.keep - 1)[:, 0] | own
        scores = scores.masked_fill(~kept[..., block], -torch.inf)
        selected = highest(scores, (scores > -torch.inf)[:, None] & chunk.eligible, self.topk)
        return replace(chunk, selected=selected, scores=scores)


def highest(scores: torch.Tensor, eligible: torch.Tensor, k: int) -> torch.Tensor:
    """The k highest of the eligible entries of each query, the first among equals.

    Args:
        scores: [batch, queries, entries].
        eligible: [batch or 1, 1, queries, entries].
        k: How many; fewer where fewer are eligible.

    Returns:
        [batch, 1, queries, entries], bool.
    """
    up = eligible[:, 0].expand(len(scores) if len(scores) > 1 else -1, -1, -1)
    scores = scores.expand(up.shape)
    lowest = torch.finfo(scores.dtype).min if scores.is_floating_point() else torch.iinfo(scores.dtype).min
    found = scores.masked_fill(~up, lowest)
    order = found.sort(stable=True, dim=-1, descending=True).indices[..., : min(k, scores.shape[-1])]
    mask = torch.zeros(up.shape, dtype=torch.bool, device=up.device).scatter_(-1, order, True)
    return (mask & up).unsqueeze(1)


def own_blocks(chunk: AttentionChunk, count: int, size: int) -> torch.Tensor:
    """The block that each query lies in, [queries, count], bool."""
    queries, keys = chunk.eligible.shape[-2:]
    own = torch.arange(keys - queries, keys, device=chunk.query.device) // size
    return torch.arange(count, device=own.device) == own[:, None]


def scrambled(numbers: torch.Tensor) -> torch.Tensor:
    """Whole numbers that look drawn evenly from 0 .. 2^62 - 1, one for each given (the finaliser of SplitMix64)."""
    mask = (1 << 62) - 1
    x = numbers * -7046029254386353131  # 0x9E3779B97F4A7C15, wrapped
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * -7723592293110705685  # 0x94D049BB133111EB
    return (x ^ ((x >> 31) & ((1 << 33) - 1))) & mask


def _bare(chunk: AttentionChunk, selected: torch.Tensor) -> AttentionChunk:
    """A selection that comes from no index scores."""
    return replace(
        chunk, selected=selected, scores=None, entries=None, chosen=None, always=None, head_scores=None,
        head_weights=None,
    )  # fmt: skip


def _in_blocks(values: torch.Tensor, size: int, filling: float) -> torch.Tensor:
    """The last dimension in blocks, the last one filled up, [..., blocks, size]."""
    padded = nn.functional.pad(values, (0, -values.shape[-1] % size), value=filling)
    return padded.view(*values.shape[:-1], -1, size)
