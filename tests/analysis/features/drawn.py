"""Random attention chunks for the comparison of the two ways to compute features."""

from __future__ import annotations

import torch

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.features.cache import KeyCaches
from indexscope.analysis.features.layer import LayerFeatures
from indexscope.analysis.settings import ExtractSettings

SETTINGS = ExtractSettings(chunk=16, local_window=5, sink_keys=3, top_k=6, sparsity_threshold=0.02)


def whole(
    n: int,
    seed: int = 0,
    *,
    batch: int = 1,
    heads: int = 4,
    groups: int = 2,
    k: int | None = 6,
    window: int | None = None,
    left: int = 0,
    scale: float = 1.0,
    levels: int = 0,
    dtype: torch.dtype = torch.float32,
    **more: object,
) -> AttentionChunk:
    """A whole sequence of n tokens as a chunk, its last item padded by `left` tokens; `levels` makes scores tie."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    eligible = torch.ones(n, n, dtype=torch.bool).tril().expand(batch, 1, n, n).clone()
    if window is not None:
        eligible &= torch.ones(n, n, dtype=torch.bool).triu(1 - window)
    eligible[-1, :, :left], eligible[-1, :, :, :left] = False, False
    scores = selected = None
    if k is not None:
        scores = normal(batch, n, n)
        scores = (scores * levels).round() / levels if levels else scores.clamp(min=-0.3) + 0.3
        scores = scores.masked_fill(~eligible[:, 0], -torch.inf)
        chosen = torch.zeros(batch, n, n, dtype=torch.bool).scatter_(-1, scores.topk(min(k, n), dim=-1).indices, True)
        selected = chosen.unsqueeze(1) & eligible
    return AttentionChunk(
        layer=0, start=0, query=(normal(batch, heads, n, 16) * scale).to(dtype),
        key=normal(batch, groups, n, 16).to(dtype), value=normal(batch, groups, n, 12).to(dtype),
        eligible=eligible, selected=selected, scores=scores, scaling=0.5, **more,
    )  # fmt: skip


def part(chunk: AttentionChunk, first: int, last: int) -> AttentionChunk:
    """Queries first .. last - 1 of a whole sequence, with the keys that a cache would hold by then."""
    changed = {
        "start": first,
        "query": chunk.query[:, :, first:last],
        "key": chunk.key[:, :, :last],
        "value": chunk.value[:, :, :last],
        "eligible": chunk.eligible[:, :, first:last, :last],
    }
    if chunk.selected is not None:
        changed |= {"selected": chunk.selected[:, :, first:last, :last], "scores": chunk.scores[:, first:last, :last]}
    if chunk.bias is not None:
        changed["bias"] = chunk.bias[:, :, first:last, :last]
    return AttentionChunk(**{**chunk.__dict__, **changed})


def features_of(
    chunk: AttentionChunk, compiled: bool, step: int | None = None, ids: torch.Tensor | None = None
) -> tuple[LayerFeatures, torch.Tensor]:
    """All features of a whole sequence and its attention output, `step` queries at a time."""
    batch, heads, n, _ = chunk.query.shape
    ids = torch.randint(7, (batch, n), generator=torch.Generator().manual_seed(5)) if ids is None else ids
    layer = LayerFeatures(SETTINGS, batch, heads, n, 6, torch.device("cpu"), compiled=compiled)
    step = step or n
    caches = KeyCaches()
    parts = [caches.followed(part(chunk, first, min(first + step, n))) for first in range(0, n, step)]
    outputs = [layer.add(one, ids) for one in parts]
    return layer, torch.cat(outputs, dim=2)
