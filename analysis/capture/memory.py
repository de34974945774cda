"""How much memory a chunk of queries takes, and the chunk that fits into what there is.

A batch of sequences of S tokens takes what grows with the chunk (attention and index scores of each query over S keys,
and its logits) and what does not (the cache and one layer's keys and values in float32). Counted in arrays of that
size alive at the same time; the numbers of arrays were measured as peaks of the process, and a test measures again.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass

import torch

from indexscope.heap import give_back

#: Chunks that "auto" chooses from: more than 256 queries are no faster, fewer than 16 mostly overhead.
LARGEST, SMALLEST = 256, 16
#: Pairs of query and key in a chunk of which more make it no faster: long sequences take fewer queries at once.
MOST_PAIRS = 1 << 22
#: Of the memory available, what extraction may plan with: other programs and the estimate's error need the rest.
SHARE = 0.5
#: float32 arrays alive at the peak: [heads, queries, keys] and [queries, keys], of which the compiled kernels, which
#: go through a chunk in small blocks, need fewer than torch;
HEAD_ARRAYS, ROW_ARRAYS = {True: 1, False: 7}, {True: 12, False: 32}
#: [indexer heads, queries, keys], [queries, vocabulary] and one layer's keys and values [heads, keys, widths].
INDEXER_ARRAYS, LOGIT_ARRAYS, KEY_ARRAYS = 3, 4, 3
#: Room for the allocator, kernels and small arrays, in bytes.
OVERHEAD = 32 << 20


@dataclass(frozen=True)
class Widths:
    """What decides the memory of a capture.

    Attributes:
        heads: Attention heads of a layer.
        indexer_heads: Indexer heads of a layer; 0 without an indexer.
        key_value_width: Numbers of key and value of one head together.
        cached_bytes: What the cache keeps of one token, all layers together.
        vocabulary: Number of token ids.
        blocked: Whether the features' compiled kernels apply.
    """

    heads: int
    indexer_heads: int
    key_value_width: int
    cached_bytes: int
    vocabulary: int
    blocked: bool = False


def query_bytes(widths: Widths, batch: int, length: int) -> int:
    """Peak memory that one more query in the chunk takes, for a batch of sequences of `length` tokens."""
    blocked = widths.blocked
    pairs = HEAD_ARRAYS[blocked] * widths.heads + INDEXER_ARRAYS * widths.indexer_heads + ROW_ARRAYS[blocked]
    return 4 * batch * (length * pairs + LOGIT_ARRAYS * widths.vocabulary)


def fixed_bytes(widths: Widths, batch: int, length: int) -> int:
    """Peak memory that a batch takes whatever the chunk."""
    keys = 4 * KEY_ARRAYS * widths.heads * widths.key_value_width
    return OVERHEAD + batch * length * (widths.cached_bytes + keys)


def plain_bytes(widths: Widths, length: int, fused: bool = True) -> int:
    """Peak memory of the model's own forward over one sequence at once: every query is in the chunk.

    Args:
        widths: Of the model.
        length: Tokens.
        fused: Whether its attention never holds the heads' maps, as sdpa does.
    """
    pairs = (
        (0 if fused else 3 * widths.heads) + INDEXER_ARRAYS * widths.indexer_heads + (6 if widths.indexer_heads else 1)
    )
    return OVERHEAD + 4 * length * (length * pairs + 2 * widths.vocabulary)


def choose_chunk(available: int, widths: Widths, batch: int, length: int) -> int:
    """The largest chunk that fits and is not needlessly large, a power of two from 16 to 256.

    Powers of two, so that machines of different memory mostly choose alike.

    Args:
        available: Bytes that this extraction may count on.
        widths: Of the model.
        batch: Sequences side by side.
        length: Tokens of each.

    Returns:
        Queries; 16 even where that does not fit, since only trying tells.

    >>> small = Widths(heads=4, indexer_heads=4, key_value_width=32, cached_bytes=1024, vocabulary=1000)
    >>> choose_chunk(8 << 30, small, 1, 512), choose_chunk(64 << 20, small, 1, 8192)
    (256, 16)
    >>> choose_chunk(64 << 30, small, 1, 65536)
    64
    """
    room = SHARE * available - fixed_bytes(widths, batch, length)
    chunk = LARGEST
    while chunk > SMALLEST and (chunk * length > MOST_PAIRS or chunk * query_bytes(widths, batch, length) > room):
        chunk //= 2
    return chunk


def halved(chunk: int, length: int) -> int | None:
    """The chunk to try after one that was too large; None where there is none worth trying."""
    before = min(chunk, length)
    return max(SMALLEST, before // 2) if before > SMALLEST else None


def let_go(device: torch.device) -> None:
    """Give back what a failed attempt held. Call it after the except block: a traceback keeps its tensors alive."""
    gc.collect()
    give_back()
    if device.type == "cuda":
        torch.cuda.empty_cache()
