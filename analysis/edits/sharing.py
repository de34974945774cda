"""Layers that take the selection of an earlier one, by replacing their indexer."""

from __future__ import annotations

import threading
import weakref
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from indexscope import IndexscopeError


class _Latest(threading.local):
    """What each indexer selected last in this thread; threads that share a model do not see each other's."""

    def __init__(self) -> None:
        self.of: weakref.WeakKeyDictionary[nn.Module, torch.Tensor] = weakref.WeakKeyDictionary()


_latest = _Latest()


class SharedSelection(nn.Module):
    """Stands where a layer's indexer stood and answers with what another layer's has just selected."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        # In a tuple, so that the source is no part of this layer.
        self.source = (source,)

    @property
    def index_topk(self) -> int:
        """Keys that it hands on at most."""
        return int(self.source[0].index_topk)  # type: ignore[arg-type]

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The selected keys, [batch, queries, k], as the indexers of transformers give them."""
        return _latest.of[self.source[0]]


def remember_selections(indexer: nn.Module, undo: ExitStack) -> None:
    """Keep what an indexer selects until it runs again, for the layers that take it over."""
    undo.callback(indexer.register_forward_hook(_remember).remove)


def _remember(module: nn.Module, args: object, output: torch.Tensor) -> None:
    if not isinstance(output, torch.Tensor):
        raise IndexscopeError(type(module).__name__, "returns no indices", "share selections of another family")
    _latest.of[module] = output
