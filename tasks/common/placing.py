"""Where a checkpoint's weights are while it runs: all on one device, over several, or read layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from indexscope import IndexscopeError
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.checkpoints import CheckpointFolder
from indexscope.tasks.common.log import tell
from indexscope.tasks.common.origin import Changed, Kind, Origin

if TYPE_CHECKING:
    from indexscope.analysis.capture.source import Source
    from indexscope.storage.inputs.dispatched import DeviceMap
    from indexscope.storage.inputs.streamed.sizes import Sizes


#: Of the free memory, what weights may take: attention, features and the estimate's error need the rest.
SHARE = 0.75
#: Of the free memory beside a streamed model's weights, what hidden states may take before they go to a file.
STATES = 0.25
#: What only a checkpoint folder can have.
OF_CHECKPOINTS = {"devices": "be put on several devices", "stream": "be read layer by layer"}
SETTING = "extract.placement"


@dataclass(frozen=True)
class Placement:
    """Where the weights are, and why.

    Attributes:
        kind: As `extract.placement` names it.
        why: For the user; "" where there was nothing to decide.
        mapped: What is where, of several devices.
    """

    kind: Kind
    why: str = ""
    mapped: DeviceMap | None = None


def checkpoint_of(origin: Origin) -> CheckpointFolder | None:
    """The checkpoint that a model's weights come from, whatever is changed of it; None where there is none."""
    while isinstance(origin, Changed):
        origin = origin.origin
    return origin if isinstance(origin, CheckpointFolder) else None


def placement(origin: Origin, settings: ExtractSettings) -> Placement:
    """Decide where a model's weights are to be; reads the free memory of this machine.

    Args:
        origin: Where the model comes from.
        settings: The placement that was asked for, precision and device.

    Raises:
        IndexscopeError: What was asked for cannot be had.
    """
    wanted, checkpoint = settings.placement, checkpoint_of(origin)
    if checkpoint is None:
        if wanted in OF_CHECKPOINTS:
            cannot = f"{wanted}: a model of your own code cannot {OF_CHECKPOINTS[wanted]}: only a checkpoint folder can"
            raise IndexscopeError(SETTING, cannot, "use placement auto or whole")
        return Placement("whole")
    if wanted == "devices":
        mapped = device_map(Path(checkpoint.folder), settings)
        return Placement(wanted, _over(mapped), mapped)
    if wanted != "auto":
        return Placement(wanted)
    from torch import device

    from indexscope.analysis.free_memory import available_bytes, size_of
    from indexscope.storage.inputs.checkpoints import resolve_device

    target = device(resolve_device(settings.device))
    stored = _stored_parameters(checkpoint.folder) * _itemsize(settings)
    rooms = [available_bytes(device("cpu"))]
    rooms += [available_bytes(target)] if target.type != "cpu" else []
    if stored <= SHARE * min(rooms):
        return Placement("whole")
    told = f"{size_of(stored)} of weights in {settings.dtype} do not fit into {size_of(min(rooms))} of free memory"
    if not _gpus(settings) or stored > sum(_rooms(settings).values()):
        return Placement("stream", f"read layer by layer: {told}")
    try:
        mapped = device_map(Path(checkpoint.folder), settings)
    except IndexscopeError as error:
        return Placement("stream", f"read layer by layer: {told}, and {error.reason}")
    return Placement("devices", f"{_over(mapped)}: {told}", mapped)


def placed(origin: Origin, settings: ExtractSettings, kind: Kind) -> object:
    """Load a model so.

    Raises:
        IndexscopeError: It cannot be loaded, or not so.
    """
    if kind == "whole":
        return origin.load(settings.dtype, settings.device)
    if isinstance(origin, Changed):
        model = placed(origin.origin, settings, kind)
        with _ready_to_change(model):
            origin.change(model)
        return model
    assert isinstance(origin, CheckpointFolder)  # or `placement` had refused it
    folder = Path(origin.folder)
    return _streamed(folder, settings) if kind == "stream" else _dispatched(folder, settings)


def device_map(folder: Path, settings: ExtractSettings) -> DeviceMap:
    """Where the parts of a checkpoint go; reads the free memory of this machine and its GPUs.

    Args:
        folder: The checkpoint.
        settings: Precision, and the devices that may be used: all GPUs, or the one that is named.

    Raises:
        IndexscopeError: There is no GPU, accelerate is not installed, or there is no room.
    """
    from indexscope.analysis.free_memory import size_of
    from indexscope.storage.inputs.dispatched import INSTALL, has_accelerate, map_devices

    remedy = "use placement whole, or stream for what does not fit into memory"
    if not _gpus(settings):
        none = "extract.device is cpu" if settings.device == "cpu" else "torch sees none here"
        raise IndexscopeError(SETTING, f"devices puts layers on GPUs, and {none}", remedy)
    if not has_accelerate():
        remedy = f"{INSTALL}, or use placement stream"
        raise IndexscopeError(SETTING, "devices needs accelerate, which is not installed", remedy)
    rooms = _rooms(settings)
    found = map_devices(folder, settings.dtype, rooms)
    if found is None:
        there = ", ".join(f"{size_of(room)} on {where}" for where, room in rooms.items())
        reason = f"devices: there is no room for all layers and for the largest once more ({there} for weights)"
        raise IndexscopeError(SETTING, reason.replace("on memory", "in memory"), "use placement stream")
    return found


def devices_plan(mapped: DeviceMap) -> str:
    """What is where of a checkpoint over several devices, in a line."""
    from indexscope.analysis.free_memory import size_of

    return mapped.told(size_of)


def streaming_plan(
    folder: Path, settings: ExtractSettings, shards: Sequence[Sequence[int]], selects: bool = False
) -> str:
    """What streaming a checkpoint will read, hold and take, in a line.

    Args:
        folder: The checkpoint.
        settings: Precision, device and how many samples have a dense reference.
        shards: Tokens of each sample, by the shard whose samples go through the layers together.
        selects: Whether the model has an indexer, so that some samples also run without it.
    """
    from indexscope.analysis.free_memory import size_of
    from indexscope.storage.inputs.checkpoints import describe
    from indexscope.storage.inputs.streamed.sizes import reading_speed

    info, found = describe(folder), _sizes(str(folder), settings.dtype)
    samples = sum(map(len, shards))
    runs = 1 + (settings.dense_samples(samples) / samples if selects else 0)
    together = max(map(sum, shards)) * runs + max(max(shard, default=0) for shard in shards)
    states = found.state * together
    parts = [
        f"a pass over a shard's samples reads {'at most ' if found.routed else ''}{size_of(info.bytes)}",
        f"holds {size_of(found.streamed)} of weights at most",
        f"and {size_of(states)} of hidden states ({_place_of_states(found, states, settings)})",
    ]
    speed = reading_speed(folder)
    if speed:
        computing = 2 * found.token * sum(map(sum, shards)) * runs / product_rate(settings)
        minutes = (len(shards) * info.bytes / speed + computing) / 60
        passes = "1 pass" if len(shards) == 1 else f"{len(shards)} passes"
        parts.append(f"about {_minutes(minutes)} for the features: {passes} at {speed / 1e9:.1f} GB/s and the products")
    return ", ".join(parts)


def tell_layer(layer: int, layers: int, runs: int) -> None:
    """Say in Prefect's log how far a sweep has come."""
    tell(f"layer {layer} of {layers}: {runs} sequences")


def _streamed(folder: Path, settings: ExtractSettings) -> Source:
    from indexscope.analysis.capture.streaming.model import StreamedModel
    from indexscope.storage.inputs.streamed.spilled import SpilledStates
    from indexscope.storage.inputs.streamed.weights import StreamedWeights

    weights = StreamedWeights(folder, settings.dtype, settings.device)
    room = _room_for_states(_sizes(str(folder), settings.dtype), settings)
    return StreamedModel(weights, SpilledStates(int(room)), tell_layer)


def _dispatched(folder: Path, settings: ExtractSettings) -> object:
    from indexscope.storage.inputs.dispatched import load_dispatched

    return load_dispatched(folder, settings.dtype, device_map(folder, settings))


def _ready_to_change(model: object) -> AbstractContextManager[None]:
    """What a change of a model needs around it."""
    from torch import nn

    from indexscope.analysis.capture.dispatched import changing

    return changing(model) if isinstance(model, nn.Module) else nullcontext()


def _gpus(settings: ExtractSettings) -> list[str]:
    """The GPUs that a model may be put on."""
    from torch import cuda

    wanted, there = settings.device, cuda.device_count() if cuda.is_available() else 0
    every = [f"cuda:{number}" for number in range(there)]
    return every if wanted in ("auto", "cuda") else [wanted] if wanted in every else []


def _rooms(settings: ExtractSettings) -> dict[str, int]:
    """Bytes that weights may take, on each GPU and in memory."""
    from torch import device

    from indexscope.analysis.free_memory import available_bytes
    from indexscope.storage.inputs.dispatched import MEMORY

    free = {where: available_bytes(device(where)) for where in _gpus(settings)}
    return {where: int(SHARE * room) for where, room in {**free, MEMORY: available_bytes(device("cpu"))}.items()}


def _over(mapped: DeviceMap) -> str:
    from indexscope.storage.inputs.dispatched import MEMORY

    *others, last = ("memory" if where == MEMORY else where for where in mapped.bytes)
    return f"put on {', '.join(others)} and {last}" if others else f"put on {last} alone"


def _place_of_states(found: Sizes, states: float, settings: ExtractSettings) -> str:
    from indexscope.analysis.free_memory import size_of

    room = _room_for_states(found, settings)
    return "in memory" if states <= room else f"{size_of(room)} in memory, the rest in a temporary file"


def _room_for_states(found: Sizes, settings: ExtractSettings) -> float:
    """Bytes of hidden states that may stay in memory, or on the device, where they are."""
    from torch import device

    from indexscope.analysis.free_memory import available_bytes
    from indexscope.storage.inputs.checkpoints import resolve_device

    free = min(available_bytes(device(where)) for where in {"cpu", resolve_device(settings.device)})
    return max(0.0, STATES * (free - found.streamed))


def _minutes(minutes: float) -> str:
    return f"{minutes / 60:.1f} hours" if minutes >= 90 else f"{max(1, round(minutes))} min"


@lru_cache(maxsize=4)
def _sizes(folder: str, dtype: Literal["float32", "bfloat16", "float16"]) -> Sizes:
    from indexscope.storage.inputs.streamed.sizes import sizes

    return sizes(Path(folder), dtype)


@lru_cache(maxsize=8)
def _stored_parameters(folder: str) -> int:
    from indexscope.storage.inputs.checkpoints import describe

    return describe(Path(folder)).parameters


def _itemsize(settings: ExtractSettings) -> int:
    from indexscope.storage.inputs.model_skeleton import DTYPES

    return DTYPES[settings.dtype].itemsize


def product_rate(settings: ExtractSettings) -> float:
    """Operations a second of a product of the size of a layer's, in the study's precision and on its device."""
    import time

    import torch

    from indexscope.storage.inputs.checkpoints import resolve_device
    from indexscope.storage.inputs.model_skeleton import DTYPES

    target = torch.device(resolve_device(settings.device))
    one = torch.ones((1024, 1024), dtype=DTYPES[settings.dtype], device=target)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        float((one @ one)[0, 0])
        seconds.append(time.perf_counter() - began)
    return 2 * 1024.0**3 / min(seconds)
