"""Looking at every q-th block of queries only: the model runs as ever, the features are those of the blocks seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from indexscope.analysis.capture import AttentionChunk

#: Queries of a block. Blocks are counted from the start of the sequence, so that chunks do not matter.
BLOCK = 16


def first_block(length: int, every: int) -> int:
    """The first block that is measured of a sequence: the middle one of the first q, or of all where they are fewer."""
    return min(every // 2, (-(-length // BLOCK) - 1) // 2)


def sampled_apart(lengths: Sequence[int], longest: int, every: int) -> tuple[int, ...]:
    """Lengths so short that other queries of them are measured than of the beginnings of longer sequences."""
    return tuple(length for length in lengths if first_block(length, every) != first_block(longest, every))


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
    middle = first_block(length, every)
    end = chunk.start + chunk.eligible.shape[2]
    for block in range(chunk.start // BLOCK, -(-end // BLOCK)):
        if block % every == middle:
            first, last = max(chunk.start, block * BLOCK), min(end, (block + 1) * BLOCK)
            yield chunk.part(first - chunk.start, last - chunk.start)
