"""A checkpoint over several devices: which of its parts go where, and loading each of them there.

Technique: transformers' ``device_map="auto"`` decides, and accelerate's hooks around the forward of each part bring its
arguments to its device, and its weights too where these lie in memory, for as long as it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs.model_skeleton import Dtype, load_skeleton
from indexscope.storage.inputs.quiet import quiet
from indexscope.storage.inputs.streamed.layers import decoder_layers, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Where parts are that have no device: their weights lie in memory and are copied to the first device to run.
MEMORY = "memory"
INSTALL = "pip install 'indexscope[devices]'"


@dataclass(frozen=True)
class DeviceMap:
    """Where the parts of a model are.

    Attributes:
        main: Device that ids go to and logits come from, and where parts run whose weights lie in memory.
        parts: Device, or `MEMORY`, by the name of a module or parameter; holds for what is within, unless that has its
            own.
        layers: Decoder layers by device, ascending.
        bytes: Weights by device.
    """

    main: str
    parts: Mapping[str, str]
    layers: Mapping[str, tuple[int, ...]]
    bytes: Mapping[str, int]

    def of(self, name: str) -> str:
        """Where a module or parameter is."""
        return nearest({"": self.main, **self.parts}, name)

    def told(self, size_of: Any) -> str:
        """What is where, in words.

        Args:
            size_of: Says bytes in words.
        """
        parts = []
        for where, amount in self.bytes.items():
            layers = _ranges(self.layers.get(where, ()))
            held = f"{layers}, " if layers else ""
            if where == MEMORY:
                parts.append(f"memory holds {held}{size_of(amount)}, copied to {self.main} for every chunk")
            else:
                parts.append(f"{where} holds {held}{size_of(amount)}")
        return "; ".join(parts)


def has_accelerate() -> bool:
    """Whether a model can be dispatched at all; imports nothing."""
    return find_spec("accelerate") is not None


def map_devices(path: Path, dtype: Dtype, rooms: Mapping[str, int]) -> DeviceMap | None:
    """Spread a checkpoint's model over devices, and what does not fit there over memory; no weight is read.

    Args:
        path: Its folder.
        dtype: Type of the weights.
        rooms: Bytes that weights may take, by device ("cuda:N"), the main one first, and of `MEMORY`.

    Returns:
        None where it does not fit: beside what it holds, the main device needs room for the largest layer.

    Raises:
        IndexscopeError: The folder is no checkpoint, or its model has no list of decoder layers.
    """
    from transformers.integrations.accelerate import get_balanced_memory, infer_auto_device_map

    model = load_skeleton(path, dtype)
    whole = sorted(_not_split(model))
    most: dict[Any, int] = {_number(name): amount for name, amount in rooms.items()}
    with quiet():
        balanced = get_balanced_memory(model, max_memory=dict(most), no_split_module_classes=whole)
        # An even share can be too little where all there is suffices.
        tried = [
            infer_auto_device_map(model, max_memory=dict(room), no_split_module_classes=whole)
            for room in (balanced, most)
        ]
    fitting = [found for found in tried if "disk" not in found.values()]
    if not fitting:
        return None
    found = min(fitting, key=lambda one: "cpu" in one.values())
    names = {_number(name): name for name in rooms}
    main, modules = next(iter(rooms)), dict(model.named_modules())
    # No hook would bring a tensor that a module of several parts holds itself.
    parts = {part: names[where] if part in modules else main for part, where in found.items()}
    return device_map(model, parts, main)


def device_map(model: PreTrainedModel, parts: Mapping[str, str], main: str) -> DeviceMap:
    """What a choice of devices comes to.

    Args:
        model: Whose parts they are; its weights need not be there.
        parts: Device, or `MEMORY`, by name.
        main: The main device.
    """
    layers: dict[str, list[int]] = {}
    amounts: dict[str, int] = {}
    names, every = {module: name for name, module in model.named_modules()}, {"": main, **parts}
    for index, layer in enumerate(decoder_layers(model)):
        layers.setdefault(nearest(every, names[layer]), []).append(index)
    tied = dict(getattr(model, "all_tied_weights_keys", None) or {})
    for name, parameter in model.named_parameters():
        if name not in tied:
            where = nearest(every, name)
            amounts[where] = amounts.get(where, 0) + parameter.numel() * parameter.element_size()
    return DeviceMap(main, dict(parts), {where: tuple(each) for where, each in layers.items()}, amounts)


def load_dispatched(path: Path, dtype: Dtype, mapped: DeviceMap) -> PreTrainedModel:
    """Load a checkpoint folder over several devices, each weight to its own; gradients are off.

    Args:
        path: Its folder.
        dtype: Type of the weights.
        mapped: As `map_devices` gives it.

    Raises:
        IndexscopeError: As `indexscope.storage.inputs.model_loading.load_model`.
    """
    from indexscope.storage.inputs.streamed.weights import StreamedWeights

    parts = {name: "cpu" if where == MEMORY else where for name, where in mapped.parts.items()}
    weights = StreamedWeights(path, dtype, mapped.main, parts)
    weights.load(weights.model)
    return dispatch(weights.model.requires_grad_(False), mapped)


def dispatch(model: PreTrainedModel, mapped: DeviceMap) -> PreTrainedModel:
    """Have the parts of a model run on their devices from now on; weights that are elsewhere go there.

    Args:
        model: In eval mode; the same is returned.
        mapped: Of this model.

    Raises:
        IndexscopeError: accelerate is not installed.
    """
    if not has_accelerate():
        raise IndexscopeError("extract.placement", "devices needs accelerate, which is not installed", INSTALL)
    from accelerate.hooks import attach_align_device_hook_on_blocks

    kept = {name: tensor for name, tensor in model.state_dict().items() if mapped.of(name) == MEMORY}
    runs = {name: mapped.main if where == MEMORY else where for name, where in mapped.parts.items()}
    with quiet():
        attach_align_device_hook_on_blocks(
            model,
            execution_device={**runs, "": mapped.main},
            # Without an entry of its own the model is no block: its hook only brings ids in, and logits back.
            offload={name: where == MEMORY for name, where in mapped.parts.items()},
            weights_map={name: tensor.detach().to("cpu") for name, tensor in kept.items()},
            skip_keys=model._skip_keys_device_placement,
            # Some compute with weights of a part that they do not call: all of a layer are there while it runs.
            preload_module_classes=sorted(_not_split(model)),
        )
    return model


def _not_split(model: PreTrainedModel) -> set[str]:
    """Classes of modules that stay on one device: decoder layers, and what transformers says of others."""
    return {type(layer).__name__ for layer in decoder_layers(model)} | set(model._no_split_modules or ())


def _number(name: str) -> int | str:
    """A device as accelerate has it."""
    return "cpu" if name == MEMORY else int(name.partition(":")[2])


def _ranges(layers: Sequence[int]) -> str:
    """Indices in words.

    >>> _ranges((0, 1, 2, 5)), _ranges((3,)), _ranges(())
    ('layers 0 to 2 and 5', 'layer 3', '')
    """
    if not layers:
        return ""
    starts = [layers[0], *(later for before, later in pairwise(layers) if later != before + 1)]
    ends = [*(before for before, later in pairwise(layers) if later != before + 1), layers[-1]]
    runs = [str(first) if first == last else f"{first} to {last}" for first, last in zip(starts, ends, strict=True)]
    said = runs[0] if len(runs) == 1 else f"{', '.join(runs[:-1])} and {runs[-1]}"
    return f"{'layer' if len(layers) == 1 else 'layers'} {said}"
