"""Looking at every q-th block of queries only: the model runs as ever, the features are those of the blocks seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from analysis.capture import AttentionChunk

#: Queries of a block. Blocks are counted from the start of the sequence, so that chunks do not matter.
BLOCK = 16


def measured_parts(chunk: AttentionChunk, length: int, every: int) -> Iterator[AttentionChunk]:
    """The blocks of a chunk whose queries are measured, each as a chunk of its own.

    Of every q blocks the middle one is taken, since most features drift with the position; so a mean over positions is
    off by curvature only, not by the drift itself. What the sampling adds to a sample's mean is, at most, a standard
    error of s / sqrt(m) x sqrt(1 - 1/q), with m blocks seen and s the standard deviation between block means.

    Args:
        chunk: What the model handed over.
        length: Tokens of the sequence.
        every: q; 1 gives the chunk as it is.
    """
    if every == 1:
        yield chunk
        return
    blocks = -(-length // BLOCK)
    middle = min(every // 2, (blocks - 1) // 2)
    end = chunk.start + chunk.eligible.shape[2]
    for block in range(chunk.start // BLOCK, -(-end // BLOCK)):
        if block % every == middle:
            first, last = max(chunk.start, block * BLOCK), min(end, (block + 1) * BLOCK)
            yield part_of(chunk, first - chunk.start, last - chunk.start)


def part_of(chunk: AttentionChunk, first: int, last: int) -> AttentionChunk:
    """Queries first .. last - 1 of a chunk, counted within it; keys after the last of them are left out."""
    queries, keys = slice(first, last), slice(None)
    if chunk.positions is None:
        keys = slice(chunk.eligible.shape[-1] - (chunk.eligible.shape[-2] - last))
    entries = keys if chunk.entries is None else slice(None)
    bias = chunk.bias
    if bias is not None:
        bias = bias[..., queries if bias.shape[-2] > 1 else slice(None), keys if bias.shape[-1] > 1 else slice(None)]
    return replace(
        chunk,
        start=chunk.start + first,
        query=chunk.query[:, :, queries],
        key=chunk.key[:, :, keys],
        value=chunk.value[:, :, keys],
        eligible=chunk.eligible[..., queries, keys],
        selected=None if chunk.selected is None else chunk.selected[..., queries, keys],
        scores=None if chunk.scores is None else chunk.scores[..., queries, entries],
        bias=bias,
        positions=chunk.positions,
        chosen=None if chunk.chosen is None else chunk.chosen[..., queries, entries],
        always=None if chunk.always is None else chunk.always[..., queries, keys],
        head_scores=None if chunk.head_scores is None else chunk.head_scores[:, queries, :, entries],
        head_weights=None if chunk.head_weights is None else chunk.head_weights[:, queries],
        probabilities=None if chunk.probabilities is None else chunk.probabilities[:, :, queries, keys],
    )
