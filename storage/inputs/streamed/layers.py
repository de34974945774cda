"""Which modules of a language model are its decoder layers, and what is said of a part by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import nn
from transformers import PreTrainedModel

from indexscope.errors import IndexscopeError

T = TypeVar("T")


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers of a language model, in the order in which they run.

    Raises:
        IndexscopeError: It has no list of as many layers as its configuration says.
    """
    config = model.config.get_text_config(decoder=True)
    decoder = model.get_decoder()
    lists = [
        module
        for module in decoder.modules()
        if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers
    ]
    if not lists:
        reason = f"cannot be streamed: it has no list of {config.num_hidden_layers} decoder layers"
        raise IndexscopeError(config.model_type, reason, "use extract.placement whole")
    return max(lists, key=lambda one: sum(parameter.numel() for parameter in one.parameters()))


def nearest(parts: Mapping[str, T], name: str) -> T:
    """What is said of a module or parameter: by its own name, or by that of the smallest part around it; "" is all."""
    while name not in parts:
        name = name.rpartition(".")[0]
    return parts[name]
