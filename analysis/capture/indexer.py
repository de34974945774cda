"""See what a lightning indexer scored and selected, inside its own forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

TOPK = (torch.topk, torch.Tensor.topk)


@dataclass(frozen=True)
class IndexerOutput:
    """One indexer call.

    Attributes:
        scores: What went into ``topk``, [batch, queries, entries]; -inf where an entry is not eligible.
        selected: What came out of it, [batch, queries, k], int64.
    """

    scores: torch.Tensor
    selected: torch.Tensor


class WatchTopk(TorchFunctionMode):
    """Remember the last ``topk`` that runs while the mode is active: its input and its indices.

    The indexers of transformers end in one ``topk`` over the index scores (DESIGN, section 3), so this sees the
    scores without a copy of any model's code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: IndexerOutput | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in TOPK:
            scores = args[0] if args else (kwargs or {})["input"]
            self.seen = IndexerOutput(scores, result[1])
        return result


def is_indexer(module: nn.Module) -> bool:
    """Tell a lightning indexer by its class name, as all families of transformers 5 name theirs."""
    return type(module).__name__.endswith("Indexer")


def indexers(model: nn.Module) -> list[nn.Module]:
    """The model's lightning indexers, in layer order."""
    return [module for module in model.modules() if is_indexer(module)]
