"""A cache of which one layer is filled; the others tell the lengths that they would have."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin, LinearAttentionCacheLayerMixin

Answer = tuple[str, tuple[Any, ...], Any]


class LayerCache(DynamicCache):  # type: ignore[misc]  # transformers is untyped
    """Remembers what the model asks it for between its layers, so that the answers can be compared.

    Attributes:
        asked: Questions and answers so far, but for those of the layers themselves.
        within: Whether a layer is running.
    """

    asked: list[Answer]
    within: bool = False

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens that a layer holds."""
        return int(self._told("get_seq_length", super().get_seq_length(layer_idx), layer_idx))

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Keys of a layer's mask, and the position of the first."""
        sizes: tuple[int, int] = super().get_mask_sizes(query_length, layer_idx)
        self._told("get_mask_sizes", sizes, query_length, layer_idx)
        return sizes

    def has_previous_state(self, layer_idx: int | None = None, state_idx: int | None = None) -> bool:
        """Whether a recurrent layer has a state."""
        return bool(
            self._told("has_previous_state", super().has_previous_state(layer_idx, state_idx), layer_idx, state_idx)
        )

    def advance(self, filled: int, batch: int, tokens: int) -> None:
        """Let all layers but one hold so many tokens more: their number, not what they are."""
        states = torch.empty((batch, 1, tokens, 1), device="meta")
        for index, layer in enumerate(self.layers):
            if index == filled:
                continue
            if isinstance(layer, LinearAttentionCacheLayerMixin):
                for state in layer.has_previous_state:
                    layer.has_previous_state[state] = True
            if isinstance(layer, CacheLayerMixin):
                layer.update(states, states)

    def _told(self, question: str, answer: Any, *about: Any) -> Any:
        if not self.within:
            self.__dict__.setdefault("asked", []).append((question, about, answer))
        return answer
