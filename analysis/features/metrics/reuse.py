"""How much of a selection earlier queries made already: what a cache of selected keys would hold."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from indexscope.analysis.features.feature import Feature, FeatureFamily, of_queries

if TYPE_CHECKING:
    import torch

    from indexscope.analysis.features.seen import Seen

#: In the order of `AttentionChunk.hits`.
HITS = ("selection_reuse", "cache_hits_2k", "cache_hits_4k")
_TEXT = "The queries are those of the dataset's text, not of what the model itself would write."
_cached = partial(of_queries, weight="queries_in_effect", better="neither", at_equal_k=True)


def measure(seen: Seen) -> dict[str, torch.Tensor]:
    """Hits of the queries, [batch or 1, queries] each, where the selections before them were followed."""
    rows = seen.rows
    if rows.chunk.hits is None:
        return {}
    return dict(zip(HITS, rows.chunk.hits[..., rows.first : rows.last].unbind(1), strict=True))


def _hits(times: str, words: str, kernel: int) -> Feature:
    return _cached(
        f"cache_hits_{times}k",
        "share",
        f"Share of the selected keys that a cache of {words} the size of the selection holds.",
        f"mean over queries in effect of the share of S_t of which fewer than {times} k_t other keys were selected "
        "since the last time; within a query keys are used from the oldest to the newest",
        source="HiSparse (vllm-project/vllm#53781) and NVIDIA/TensorRT-LLM#12385, which keep selected keys on the GPU; "
        "stack distance: Mattson, Gecsei, Slutz and Traiger 1970",
        misleads=f"While a context holds fewer than {times} k_t keys the cache holds all that was ever selected, and "
        f"only keys seen for the first time miss: read it by length. {_TEXT}",
        label=f"hits of a cache of {times} k keys",
        kernel=kernel,
    )


FAMILY = FeatureFamily(
    order=25,
    title="Reuse",
    about=(
        "How much of S_t earlier queries selected too: the hit rate of a cache of k_t, 2 k_t and 4 k_t keys that drops "
        "the least recently used one. Of k_t keys it is the last selection, which selection_reuse counts. Queries "
        "follow each other as in the text, whatever the chunk and however few are measured."
    ),
    measure=measure,
    metrics=(
        _cached(
            "selection_reuse",
            "share",
            "Share of the selected keys that the query before selected too.",
            "mean over queries in effect of |S_t and S_{t-1}| / |S_t|",
            source="HiSparse (vllm-project/vllm#53781), which keeps the selected keys of earlier steps on the GPU",
            misleads="Where nearly all keys are selected nearly all are reused: by chance alone it is about k_t / n_t "
            f"(read random_recall beside it), and a window of w keys adds w - 1. {_TEXT}",
            label="selection reused",
            kernel=10,
        ),
        _hits("2", "twice", 11),
        _hits("4", "four times", 12),
    ),
)
