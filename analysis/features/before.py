"""What the query before a chunk selected, so that no feature depends on where chunks end."""

from __future__ import annotations

from dataclasses import replace

import torch

from indexscope.analysis.capture.chunk import AttentionChunk


class LastSelections:
    """Carries the last selection of each layer's chunk over to its next one. Chunks of a layer come in order."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, torch.Tensor]] = {}

    def carried(self, chunk: AttentionChunk) -> AttentionChunk:
        """The chunk with `before`, where the query before its first one was seen and keys are tokens in order."""
        if chunk.selected is None or chunk.positions is not None:
            return chunk
        end, last = self._last.get(chunk.layer, (0, None))
        queries, keys = chunk.selected.shape[-2:]
        self._last[chunk.layer] = chunk.start + queries, chunk.selected[:, :, -1:].clone()
        if last is None or end != chunk.start:
            return chunk
        # Both end with the key of their own last query; a sliding cache may have dropped the oldest since.
        old = keys - queries
        width = min(last.shape[-1], old)
        before = torch.zeros_like(chunk.selected[:, :, :1])
        before[..., old - width : old] = last[..., last.shape[-1] - width :]
        return replace(chunk, before=before)
