"""Layers that take the selection of an earlier one, by replacing their indexer."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn

from indexscope import IndexscopeError
from indexscope.analysis.capture.interface import running
from indexscope.analysis.capture.selecting import INDICES, TakesOver


class SharedSelection(nn.Module, TakesOver):
    """Stands where a layer's indexer stood and answers with what another layer's has just selected in this thread.

    Args:
        indexer: The other layer's, under `remember_selections`.
        layer: Whose place it takes.
        source: The other layer.
    """

    def __init__(self, indexer: nn.Module, layer: int, source: int) -> None:
        super().__init__()
        # In a tuple, so that the other layer's indexer is no part of this layer.
        self._of, self.layer, self.source = (indexer,), layer, source

    @property
    def index_topk(self) -> int:
        """Keys that it hands on at most."""
        return int(self._of[0].index_topk)  # type: ignore[arg-type]

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The selected keys, [batch, queries, k], as the indexers of transformers give them."""
        selected: torch.Tensor = running.carried.layers[INDICES, self.source]
        given = next((one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)), selected)
        return selected.to(given.device)


def remember_selections(indexer: nn.Module, layer: int, undo: ExitStack) -> None:
    """Keep what a layer's indexer selects until it runs again, for the layers that take it over."""
    undo.callback(indexer.register_forward_hook(partial(_remember, layer)).remove)


def _remember(layer: int, module: nn.Module, args: object, output: torch.Tensor) -> None:
    if not isinstance(output, torch.Tensor):
        raise IndexscopeError(type(module).__name__, "returns no indices", "share selections of another family")
    running.carried.layers[INDICES, layer] = output
