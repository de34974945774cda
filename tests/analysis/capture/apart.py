"""Models whose layers are put on several devices in turn."""

from __future__ import annotations

from transformers import PreTrainedModel

from indexscope.storage.inputs.dispatched import device_map, dispatch
from indexscope.storage.inputs.streamed.layers import decoder_layers


def over(model: PreTrainedModel, *devices: str, others: str, main: str = "cpu") -> PreTrainedModel:
    """The model with its layers on these devices in turn, and all else elsewhere."""
    names = {module: name for name, module in model.named_modules()}
    layers = [names[layer] for layer in decoder_layers(model)]
    parts = {name: devices[place % len(devices)] for place, name in enumerate(layers)}
    around = {layers[0].rsplit(".", up)[0] for up in range(1, layers[0].count(".") + 1)} | {""}
    for name, module in model.named_modules():
        if name not in around | parts.keys() and name.rpartition(".")[0] in around:
            parts[name] = main if module is model.get_input_embeddings() else others
    return dispatch(model, device_map(model, parts, main))
