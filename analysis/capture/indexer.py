"""See what a lightning indexer scored and selected, inside its own forward."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

TOPK = (torch.topk, torch.Tensor.topk)
RELU = (torch.relu, torch.Tensor.relu, functional.relu)
#: Where an indexer keeps the precision that an edit has it score in.
PRECISION = "indexscope_precision"
WEIGHING = (torch.Tensor.mul, torch.mul, torch.Tensor.__mul__, torch.matmul, torch.Tensor.matmul)


class WatchTopk(TorchFunctionMode):
    """Remember what went into ``topk`` while the mode was active.

    The indexers of transformers end in one ``topk`` over the index scores, so this sees the
    scores without a copy of any model's code.

    Args:
        heads: Also remember what came out of ReLU, times any number, and the tensor that then weighed it.

    Attributes:
        calls: What went into each ``topk``, in order; in most families there is one, [batch, queries, entries].
        heads: Scores of the single heads after ReLU, as the model laid them out, one a ReLU.
        weights: What each of these was multiplied with; fewer where the heads were only added up.
    """

    def __init__(self, heads: bool = False) -> None:
        super().__init__()
        self.keep = heads
        self.calls: list[torch.Tensor] = []
        self.heads: list[torch.Tensor] = []
        self.weights: list[torch.Tensor] = []

    @property
    def scores(self) -> torch.Tensor | None:
        """What went into the last ``topk``: -inf where an entry was not eligible."""
        return self.calls[-1] if self.calls else None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in TOPK:
            self.calls.append(args[0] if args else (kwargs or {})["input"])
        elif self.keep and func in RELU:
            # torch.nn.functional.relu calls torch.relu inside: one ReLU, seen twice.
            if not self.heads or self.heads[-1] is not result:
                self.heads.append(result)
        elif self.keep and func in WEIGHING and len(self.weights) < len(self.heads):
            self._weigh(args[0], args[1], result)
        return result

    def _weigh(self, one: Any, other: Any, result: torch.Tensor) -> None:
        if other is self.heads[-1]:
            one, other = other, one
        if one is not self.heads[-1]:
            return
        if isinstance(other, torch.Tensor):
            self.weights.append(other)
        else:
            self.heads[-1] = result


@dataclass(frozen=True)
class Seen:
    """What one call of an indexer showed."""

    indexer: nn.Module
    path: str
    scores: list[torch.Tensor]
    heads: list[torch.Tensor] = field(default_factory=list)
    weights: list[torch.Tensor] = field(default_factory=list)


def is_indexer(module: nn.Module) -> bool:
    """Tell a lightning indexer by its class name, as all families of transformers 5 name theirs."""
    return type(module).__name__.endswith("Indexer")


def indexers(model: nn.Module) -> list[nn.Module]:
    """The model's lightning indexers, in layer order."""
    return [module for module in model.modules() if is_indexer(module)]


def first_attribute(module: nn.Module, names: tuple[str, ...]) -> int | None:
    """The first of several attributes that are whole numbers."""
    found = (getattr(module, name, None) for name in names)
    return next((value for value in found if isinstance(value, int)), None)


def index_topk(indexer: nn.Module) -> int | None:
    """Keys that an indexer selects a query, forced ones not counted (deepseek_v4: compressed entries)."""
    blocks, size = first_attribute(indexer, ("topk_blocks",)), first_attribute(indexer, ("block_size",))
    if blocks is not None and size is not None:
        return blocks * size
    return first_attribute(indexer, ("index_topk", "token_budget"))


def index_heads(indexer: nn.Module) -> int | None:
    """Number of indexer heads."""
    return first_attribute(indexer, ("n_heads", "index_n_heads", "num_heads"))


def index_dim(indexer: nn.Module) -> int | None:
    """Width of an indexer head."""
    return first_attribute(indexer, ("head_dim", "index_head_dim"))


def arguments_of(indexer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call of an indexer, by name."""
    return inspect.signature(type(indexer).forward).bind(indexer, *args, **kwargs).arguments
