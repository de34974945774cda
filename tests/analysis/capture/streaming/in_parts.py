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
        self._aside: dict[tuple[nn.Module, str], torch.Tensor] = {}
        self.drop(model)

    def load(self, part: nn.Module, deep: bool = True) -> None:
        if part in list(self.layers):
            self.loads[list(self.layers).index(part)] += 1
            self._there.add(id(part))
            self.most = max(self.most, len(self._there))
        for module in part.modules() if deep else [part]:
            for held, name, _ in _stored(module):
                held[name] = self._aside[module, name]

    def drop(self, part: nn.Module) -> None:
        self._there.discard(id(part))
        for module in part.modules():
            for held, name, tensor in _stored(module):
                self._aside.setdefault((module, name), tensor)
                blank = tensor.detach().to("meta")
                held[name] = nn.Parameter(blank, requires_grad=False) if held is module._parameters else blank

    def ahead(self, part: nn.Module) -> None:
        assert part in list(self.layers)


def _stored(module: nn.Module) -> list[tuple[dict[str, Any], str, torch.Tensor]]:
    """What of a module's own is stored: parameters, and buffers but for those that are computed."""
    buffers = [name for name in module._buffers if name not in module._non_persistent_buffers_set]
    names = [(module._parameters, name) for name in module._parameters] + [(module._buffers, name) for name in buffers]
    return [(held, name, held[name]) for held, name in names if held[name] is not None]
