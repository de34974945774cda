"""A cache of which one layer is filled; the others tell the lengths that they would have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin, LinearAttentionCacheLayerMixin

Answer = tuple[str, tuple[Any, ...], Any]


class LayerCache(DynamicCache):  # type: ignore[misc]  # transformers is untyped
    """Remembers what the model asks it for between its layers, so that the answers can be compared.

    Args:
        config: Of the model.

    Attributes:
        asked: Questions and answers so far, but for those of the layers themselves.
        within: Whether a layer is running.
    """

    asked: list[Answer]
    within: bool = False

    def __init__(self, config: Any) -> None:
        super().__init__(config=config)
        self._kinds: tuple[list[bool], ...] = super().is_sliding, super().is_linear, super().is_dummy
        self.layers: _Advancing = _Advancing(super().__getattribute__("layers"))

    @property
    def is_sliding(self) -> list[bool]:
        """Whether each layer has a window."""
        return self._kinds[0]

    @property
    def is_linear(self) -> list[bool]:
        """Whether each layer is recurrent alone."""
        return self._kinds[1]

    @property
    def is_dummy(self) -> list[bool]:
        """Whether each layer holds nothing."""
        return self._kinds[2]

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
        self.layers.pieces.append((filled, batch, tokens))

    def _told(self, question: str, answer: Any, *about: Any) -> Any:
        if not self.within:
            self.__dict__.setdefault("asked", []).append((question, about, answer))
        return answer


class _Advancing(list[Any]):
    """Layers of a cache, each of which catches up when it is looked at: most never are.

    Attributes:
        pieces: What all layers but one are to hold: which one, how many sequences, and tokens of each.
    """

    def __init__(self, layers: list[Any]) -> None:
        super().__init__(layers)
        self.pieces: list[tuple[int, int, int]] = []
        self._done = [0] * len(layers)

    def __getitem__(self, place: Any) -> Any:
        asked = range(len(self))[place]
        for index in asked if isinstance(asked, range) else (asked,):
            self._catch_up(index)
        return super().__getitem__(place)

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self)):
            self._catch_up(index)
        return super().__iter__()

    def _catch_up(self, index: int) -> None:
        if index >= len(self._done):  # one that was added after all
            return
        behind, self._done[index] = self.pieces[self._done[index] :], len(self.pieces)
        for filled, batch, tokens in behind:
            if filled != index:
                _advance(super().__getitem__(index), batch, tokens)


def _advance(layer: Any, batch: int, tokens: int) -> None:
    if isinstance(layer, LinearAttentionCacheLayerMixin):
        for state in layer.has_previous_state:
            layer.has_previous_state[state] = True
    if isinstance(layer, CacheLayerMixin):
        states = torch.empty((batch, 1, tokens, 1), device="meta")
        layer.update(states, states)
