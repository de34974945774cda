"""See what a lightning indexer scored and selected, inside its own forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

TOPK = (torch.topk, torch.Tensor.topk)


class WatchTopk(TorchFunctionMode):
    """Remember what went into the last ``topk`` that ran while the mode was active, in ``scores``.

    The indexers of transformers end in one ``topk`` over the index scores (DESIGN, section 3), so this sees the
    scores without a copy of any model's code: [batch, queries, entries], -inf where an entry is not eligible.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scores: torch.Tensor | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in TOPK:
            self.scores = args[0] if args else (kwargs or {})["input"]
        return result


def is_indexer(module: nn.Module) -> bool:
    """Tell a lightning indexer by its class name, as all families of transformers 5 name theirs."""
    return type(module).__name__.endswith("Indexer")


def indexers(model: nn.Module) -> list[nn.Module]:
    """The model's lightning indexers, in layer order."""
    return [module for module in model.modules() if is_indexer(module)]
