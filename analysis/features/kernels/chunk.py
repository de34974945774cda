"""All features of a chunk by compiled kernels, block of queries by block of queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.features.block_sums import BlockSums
from indexscope.analysis.features.columns import PER_HEAD, PER_QUERY
from indexscope.analysis.features.kernels.block import Item, Options, extract_block
from indexscope.analysis.features.kernels.index_scores import all_finite, bin_scores
from indexscope.analysis.features.kernels.pool import run_all
from indexscope.analysis.features.kernels.ranges import key_ranges
from indexscope.analysis.features.metrics.reuse import HITS

# Queries of a block, and how many logits fit the second-level cache; neither depends on the number of threads.
_MOST_QUERIES, _FEWEST_QUERIES = 64, 8
_LOGITS = 1 << 20
# Products of this size still have room for their sums in float32.
_LARGEST_LOGIT = 1e30
_HITS = [PER_QUERY.index(name) for name in HITS]


@dataclass(frozen=True)
class Ranges:
    """E_t of a chunk that the kernels can take: one range of keys a query, [batch, queries] each."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]


@dataclass(frozen=True)
class ChunkFeatures:
    """Features of a chunk of queries.

    Attributes:
        output: Attention output that the model goes on with, [batch, heads, queries, value width].
        per_head: [names, batch, heads, queries], NaN where undefined.
        per_query: [names, batch, queries], NaN where undefined.
        eligible: n_t, [batch, queries].
        in_effect: [batch, queries].
        blocks: What the blocks of each item add up to, in order.
        centre: Score about which the blocks' moments are taken.
    """

    output: torch.Tensor
    per_head: NDArray[np.float32]
    per_query: NDArray[np.float32]
    eligible: NDArray[np.int64]
    in_effect: NDArray[np.bool_]
    blocks: list[list[BlockSums]]
    centre: float


def ranges_of(chunk: AttentionChunk) -> Ranges | None:
    """E_t as ranges, or None where the kernels do not apply and torch has to do.

    They apply on the CPU where keys are tokens, every query's eligible keys are one range up to itself, all heads
    share one selection, every eligible key has a score, and nothing is infinite or NaN.
    """
    if chunk.query.device.type != "cpu" or chunk.probabilities is not None:
        return None
    if chunk.positions is not None or chunk.entries is not None:
        return None
    if chunk.selected is not None and chunk.selected.shape[1] > 1:
        return None
    batch, _, queries, _ = chunk.query.shape
    keys = chunk.key.shape[2]
    position, first_key = chunk.start, chunk.start + queries - keys
    if first_key < 0 or chunk.value.shape[-1] == 0 or not _moderate(chunk):
        return None
    low, high = np.empty((2, chunk.eligible.shape[0], queries), dtype=np.int64)
    mask = chunk.eligible[:, 0].contiguous().view(torch.uint8).numpy()
    last = np.arange(position, position + queries) - first_key
    for item in range(len(mask)):
        if not key_ranges(mask[item], low[item], high[item]) or bool((high[item] > last + 1).any()):
            return None
    shape = (batch, queries)
    low, high = np.broadcast_to(low, shape), np.broadcast_to(high, shape)
    if chunk.scores is not None and chunk.selected is not None:
        if chunk.scores.dim() != 3 or chunk.scores.shape[-1] != keys:
            return None
        scores = chunk.scores.float().contiguous().numpy()
        if not all(all_finite(scores[item], low[item], high[item]) for item in range(batch)):
            return None
    return Ranges(low, high)


def _moderate(chunk: AttentionChunk) -> bool:
    """Whether no logit of the chunk's own tokens can be infinite or NaN; earlier keys had their turn as new ones."""
    bound = _largest(chunk.query) * _largest(chunk.key[:, :, -chunk.query.shape[2] :])
    bound *= chunk.query.shape[-1] * abs(chunk.scaling)
    if chunk.bias is not None:
        bound += _largest(chunk.bias)
    return bound < _LARGEST_LOGIT


def _largest(values: torch.Tensor) -> float:
    # numpy, because waking torch's threads for so little costs more than the work.
    array = values.float().numpy()
    return max(float(array.max()), -float(array.min()))


def extract_chunk(
    chunk: AttentionChunk, ranges: Ranges, copies: NDArray[np.int64], options: Options, histogram: NDArray[np.int64]
) -> ChunkFeatures:
    """All features of a chunk.

    Args:
        chunk: A chunk for which `ranges_of` gave ranges.
        ranges: Those.
        copies: Latest earlier copy of each token, [batch, sequence].
        options: Thresholds and windows.
        histogram: Counts of selected and unselected scores by bin, [batch, 2, bins]; added to.
    """
    batch, heads, queries, _ = chunk.query.shape
    eligible = ranges.high - ranges.low
    in_effect = np.zeros((batch, queries), dtype=np.bool_)
    per_head = np.full((len(PER_HEAD), batch, heads, queries), np.nan, dtype=np.float32)
    per_query = np.full((len(PER_QUERY), batch, queries), np.nan, dtype=np.float32)
    output = torch.empty((batch, heads, queries, chunk.value.shape[-1]))
    query, key, value = chunk.query.float(), chunk.key.float(), chunk.value.float().contiguous()
    bias = None if chunk.bias is None else chunk.bias.float().expand(batch, -1, queries, key.shape[2])
    sinks = np.full(heads, -1e30, dtype=np.float32) if chunk.sinks is None else chunk.sinks.float().numpy()
    selected = scores = None
    centre = 0.0
    if chunk.selected is not None:
        selected = chunk.selected[:, 0].contiguous().view(torch.uint8).numpy()
        if chunk.scores is not None:
            scores = chunk.scores.float().contiguous().numpy()
            centre = float(scores[0, -1, -1])
    centre = centre if np.isfinite(centre) else 0.0
    items = [
        Item(
            query=query[item],
            key=key[item],
            value=value[item],
            scaling=chunk.scaling,
            softcap=chunk.softcap,
            bias=None if bias is None else bias[item],
            sinks=sinks,
            low=ranges.low[item],
            high=ranges.high[item],
            copies=copies[item],
            position=chunk.start,
            first_key=chunk.start + queries - key.shape[2],
            selected=None if selected is None else selected[min(item, len(selected) - 1)],
            scores=None if scores is None else scores[item],
            centre=centre,
            stats=per_head[:, item],
            of_query=per_query[:, item],
            in_effect=in_effect[item],
            output=output[item],
        )
        for item in range(batch)
    ]
    step = _block(heads, key.shape[2])
    tasks: list[Callable[[], BlockSums | None]] = [
        partial(extract_block, item, first, min(first + step, queries), options)
        for item in items
        for first in range(0, queries, step)
    ]
    each = len(tasks) // batch
    if scores is not None:
        tasks += [partial(_bin, item, histogram[index]) for index, item in enumerate(items)]
    done = [found for found in run_all(tasks) if found is not None]
    if chunk.hits is not None:
        per_query[_HITS] = np.where(in_effect, chunk.hits.transpose(0, 1).numpy(), np.nan)
    blocks = [done[item * each : (item + 1) * each] for item in range(batch)]
    return ChunkFeatures(output, per_head, per_query, eligible, in_effect, blocks, centre)


def _block(heads: int, keys: int) -> int:
    """Queries of a block: as many as leave its logits in the cache, within bounds."""
    fitting = _LOGITS // (heads * keys)
    return max(_FEWEST_QUERIES, min(_MOST_QUERIES, fitting // 8 * 8))


def _bin(item: Item, histogram: NDArray[np.int64]) -> None:
    assert item.selected is not None and item.scores is not None
    bin_scores(item.scores, item.selected, item.low, item.high, histogram)
