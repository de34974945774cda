"""How much of a selection the query before it made already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexscope.analysis.features.feature import FeatureFamily, of_queries

if TYPE_CHECKING:
    import torch

    from indexscope.analysis.capture.chunk import AttentionChunk


def reused(chunk: AttentionChunk, first: int, last: int) -> torch.Tensor:
    """|S_t and S_{t-1}| / |S_t| of queries first .. last - 1 of a chunk with a selection, averaged over groups.

    Returns:
        [batch or 1, queries]; NaN where nothing is selected, where the query before was not seen, and where keys are
        no tokens in order, which chunks may hold in different places.
    """
    import torch

    assert chunk.selected is not None
    own = chunk.selected[:, :, first:last]
    if chunk.positions is not None:
        return torch.full_like(own[:, 0, :, 0], torch.nan, dtype=torch.float32)
    before = chunk.selected[:, :, max(first - 1, 0) : last - 1]
    if first == 0:
        carried = torch.zeros_like(own[:, :, :1]) if chunk.before is None else chunk.before
        before = torch.cat([carried, before], dim=2)
    share = (own & before).sum(-1) / own.sum(-1)
    if first == 0 and chunk.before is None:
        share[:, :, 0] = torch.nan
    return share.mean(1)


FAMILY = FeatureFamily(
    order=25,
    title="Reuse",
    about=(
        "How much of S_t the query before selected too: what a cache of the last selection's keys would hold. Queries "
        "follow each other as in the text, whatever the chunk and however few are measured."
    ),
    measure=lambda seen: (
        {}
        if seen.rows.selected is None
        else {"selection_reuse": reused(seen.rows.chunk, seen.rows.first, seen.rows.last)}
    ),
    metrics=(
        of_queries(
            "selection_reuse",
            "share",
            "Share of the selected keys that the query before selected too.",
            "mean over queries in effect of |S_t and S_{t-1}| / |S_t|",
            weight="queries_in_effect",
            source="HiSparse (vllm-project/vllm#53781), which keeps the selected keys of earlier steps on the GPU",
            misleads="Where nearly all keys are selected nearly all are reused: by chance alone it is about k_t / n_t "
            "(read random_recall beside it), and a window of w keys adds w - 1. The queries are those of the dataset's "
            "text, not of what the model itself would write, and a cache of more than k_t keys hits more often.",
            label="selection reused",
            at_equal_k=True,
            kernel=10,
        ),
    ),
)
