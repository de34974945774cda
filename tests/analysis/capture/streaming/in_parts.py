"""Weights of a model in memory that are put aside and handed out part by part."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel


class InParts:
    """Takes a model's weights away; see `LayerWeights`.

    Attributes:
        loads: How often each layer was loaded, by index.
        most: Layers that were there at once, at most.
    """

    device = torch.device("cpu")

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        count = model.config.get_text_config(decoder=True).num_hidden_layers
        self.layers = next(
            module
            for name, module in model.named_modules()
            if isinstance(module, nn.ModuleList) and len(module) == count and "vis" not in name
        )
        self.loads: Counter[int] = Counter()
        self.most = 0
        self._there: set[int] = set()
        self._aside = {(module, name): held[name] for module in model.modules() for held, name in _stored(module)}
        self.drop(model)

    def load(self, part: nn.Module, deep: bool = True) -> None:
        if part in list(self.layers):
            self.loads[list(self.layers).index(part)] += 1
            self._there.add(id(part))
            self.most = max(self.most, len(self._there))
        for held, name, tensor in self._of(part, deep):
            held[name] = tensor

    def fill(self, part: nn.Module, deep: bool = True) -> None:
        for held, name, tensor in self._of(part, deep):
            held[name] = _like(tensor, torch.zeros_like(tensor))

    def drop(self, part: nn.Module, deep: bool = True) -> None:
        self._there.discard(id(part))
        for held, name, tensor in self._of(part, deep):
            held[name] = _like(tensor, tensor.detach().to("meta"))

    def ahead(self, part: nn.Module, tokens: int) -> None:
        assert part in list(self.layers) and tokens > 0

    def routed(self) -> list[nn.Module]:
        return []

    def lacking(self, module: nn.Module, args: Any, kwargs: Any) -> set[int]:
        raise AssertionError

    def load_experts(self, module: nn.Module, experts: object) -> None:
        raise AssertionError

    def _of(self, part: nn.Module, deep: bool) -> list[tuple[dict[str, Any], str, torch.Tensor]]:
        """What a part has of what was put aside; whatever else is in it was added later."""
        return [
            (held, name, self._aside[module, name])
            for module in (part.modules() if deep else [part])
            for held, name in _stored(module)
            if (module, name) in self._aside
        ]


def _like(tensor: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return nn.Parameter(value, requires_grad=False) if isinstance(tensor, nn.Parameter) else value


def _stored(module: nn.Module) -> list[tuple[dict[str, Any], str]]:
    """What of a module's own is stored: parameters, and buffers but for those that are computed."""
    buffers = [name for name in module._buffers if name not in module._non_persistent_buffers_set]
    names = [(module._parameters, name) for name in module._parameters] + [(module._buffers, name) for name in buffers]
    return [(held, name) for held, name in names if held[name] is not None]
