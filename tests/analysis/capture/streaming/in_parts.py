"""Weights of a model in memory that are put aside and handed out part by part."""

from __future__ import annotations

from collections import Counter

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
        self._aside: dict[tuple[nn.Module, str], nn.Parameter] = {}
        self.drop(model)

    def load(self, part: nn.Module) -> None:
        if part in list(self.layers):
            self.loads[list(self.layers).index(part)] += 1
            self._there.add(id(part))
            self.most = max(self.most, len(self._there))
        for module in part.modules():
            for name in module._parameters:
                if (module, name) in self._aside:
                    setattr(module, name, self._aside[module, name])

    def drop(self, part: nn.Module) -> None:
        self._there.discard(id(part))
        for module in part.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    self._aside.setdefault((module, name), parameter)
                    setattr(module, name, nn.Parameter(parameter.to("meta"), requires_grad=False))

    def ahead(self, part: nn.Module) -> None:
        assert part in list(self.layers)
