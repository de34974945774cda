"""What a pass has come to as a stream of bytes, read and written from front to end and never in memory whole.

Layout: tensors and arrays, each on its own with a checksum, then a pickle of what holds them together, in which they
are numbers. Reading makes tensors, arrays and this package's own classes, and nothing else that a pickle could name.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zlib
from typing import IO, Any

import numpy as np
import torch

from indexscope.analysis.capture.streaming.states import Leaf, States
from indexscope.foreign import words

_NUMBER = struct.Struct("<Q")
_STRUCTURE = "structure"
#: What a pickle may name besides classes of this package.
_PLAIN = {
    *(("builtins", name) for name in ("bytearray", "complex", "dict", "frozenset", "list", "range", "set", "slice")),
    *(("collections", name) for name in ("OrderedDict", "defaultdict", "deque")),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "scalar"),
    ("torch", "Size"),
}


class Unreadable(ValueError):
    """A stream that is not what was written."""


def write(state: object, file: IO[bytes]) -> None:
    """Write a state: plain objects that hold tensors, arrays and outputs of layers.

    Tensors that share memory share it when they are read. Devices are kept by their type.

    Raises:
        Exception: Something in it cannot be put away.
    """
    structure = io.BytesIO()
    _Pickler(structure, file).dump(state)
    _put(file, {"kind": _STRUCTURE}, structure.getbuffer())


def read(file: IO[bytes], states: States, device: torch.device) -> Any:
    """Read a state.

    Args:
        file: Where it was written.
        states: Where outputs of layers are put.
        device: Of the tensors that were not on the CPU.

    Raises:
        Unreadable: It is not as it was written.
    """
    made: list[Any] = []
    try:
        while True:
            head, data = _get(file)
            if head["kind"] == _STRUCTURE:
                return _Unpickler(io.BytesIO(data.numpy().data), made).load()
            made.append(_made(head, data, states, device))
    except BaseException as error:
        for one in made:
            if isinstance(one, Leaf):
                one.drop()
        if isinstance(error, Exception):
            raise Unreadable(words(error)) from error
        raise


class _Pickler(pickle.Pickler):
    """Writes tensors and arrays beside what it pickles."""

    def __init__(self, structure: IO[bytes], beside: IO[bytes]) -> None:
        super().__init__(structure, protocol=5)
        self._beside, self._count = beside, 0
        #: Numbers by what was written, which is kept, so that nothing else takes its place in memory.
        self._known: dict[tuple[str, int], tuple[int, object]] = {}

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, Leaf):
            if not obj.has_values:
                return "dropped", tuple(obj.shape), _name(obj.dtype)
            return "made", self._leaf(obj)
        if isinstance(obj, torch.Tensor):
            where = tuple(obj.shape), obj.stride(), obj.storage_offset()
            return "tensor", self._storage(obj.detach()), _name(obj.dtype), *where
        if isinstance(obj, np.ndarray) and not obj.dtype.hasobject:
            return "made", self._array(obj)
        if isinstance(obj, torch.dtype):
            return "dtype", _name(obj)
        return None

    def _leaf(self, leaf: Leaf) -> int:
        known = self._known.get(("leaf", id(leaf)))
        if known is not None:
            return known[0]
        value = leaf.value()
        extent = 1 + sum((size - 1) * step for size, step in zip(value.shape, value.stride(), strict=True))
        flat = value.as_strided((extent if value.numel() else 0,), (1,)).cpu()
        head = {"kind": "leaf", "dtype": _name(value.dtype), "shape": list(value.shape), "stride": list(value.stride())}
        return self._written("leaf", id(leaf), leaf, {**head, "device": value.device.type}, _bytes(flat))

    def _storage(self, tensor: torch.Tensor) -> int:
        storage = tensor.untyped_storage()
        known = self._known.get(("storage", storage.data_ptr()))
        if known is not None and storage.nbytes():
            return known[0]
        flat = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)
        head = {"kind": "storage", "device": tensor.device.type}
        return self._written("storage", storage.data_ptr(), storage, head, _bytes(flat.cpu()))

    def _array(self, array: np.ndarray[Any, Any]) -> int:
        known = self._known.get(("array", id(array)))
        if known is not None:
            return known[0]
        # Laid out as it is: the order in memory is the order in which numbers are added up.
        axes = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
        laid = np.ascontiguousarray(array.transpose(axes))
        head = {"kind": "array", "dtype": array.dtype.str, "shape": list(array.shape), "axes": axes}
        return self._written("array", id(array), array, head, laid.reshape(-1).view(np.uint8).data)

    def _written(self, kind: str, place: int, keep: object, head: dict[str, Any], data: memoryview | bytes) -> int:
        _put(self._beside, head, data)
        number = self._count
        self._count += 1
        self._known[kind, place] = number, keep
        return number


class _Unpickler(pickle.Unpickler):
    def __init__(self, structure: IO[bytes], made: list[Any]) -> None:
        super().__init__(structure)
        self._made = made

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case "made", number:
                return self._made[number]
            case "dropped", shape, dtype:
                return Leaf.without_values(torch.Size(shape), _dtype(dtype))
            case "tensor", number, dtype, shape, stride, offset:
                storage = self._made[number].untyped_storage()
                like = torch.empty(0, dtype=_dtype(dtype), device=storage.device)
                return like.set_(storage, offset, shape, stride)
            case "dtype", name:
                return _dtype(name)
        raise Unreadable(f"{pid!r} stands for nothing")

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) in _PLAIN:
            return super().find_class(module_name, global_name)
        if module_name.startswith("indexscope."):
            found = super().find_class(module_name, global_name)
            if isinstance(found, type):
                return found
        raise Unreadable(f"{module_name}.{global_name} does not belong here")


def _made(head: dict[str, Any], data: torch.Tensor, states: States, device: torch.device) -> Any:
    if head["kind"] == "array":
        shape, axes = head["shape"], head["axes"]
        laid = data.numpy().view(np.dtype(head["dtype"])).reshape([shape[axis] for axis in axes])
        return laid.transpose(np.argsort(axes)) if axes else laid
    target = torch.device("cpu") if head["device"] == "cpu" else device
    if head["kind"] == "storage":
        return data.to(target)
    flat = data.view(_dtype(head["dtype"])).to(target)
    return Leaf(flat.as_strided(head["shape"], head["stride"]), states)


def _put(file: IO[bytes], head: dict[str, Any], data: memoryview | bytes) -> None:
    text = json.dumps({**head, "bytes": len(data)}).encode()
    file.write(_NUMBER.pack(len(text)))
    file.write(text)
    file.write(data)
    file.write(_NUMBER.pack(zlib.crc32(data, zlib.crc32(text))))


def _get(file: IO[bytes]) -> tuple[dict[str, Any], torch.Tensor]:
    text = _exactly(file, _NUMBER.unpack(_exactly(file, _NUMBER.size))[0])
    head: dict[str, Any] = json.loads(text)
    data = torch.empty(head["bytes"], dtype=torch.uint8)
    into, done = data.numpy().data, 0
    while done < len(into):
        got = file.readinto(into[done:])  # type: ignore[attr-defined]  # which every binary file has
        if not got:
            raise Unreadable("it ends too early")
        done += got
    if _NUMBER.unpack(_exactly(file, _NUMBER.size))[0] != zlib.crc32(into, zlib.crc32(text)):
        raise Unreadable("a checksum differs")
    return head, data


def _exactly(file: IO[bytes], size: int) -> bytes:
    if size > 1 << 20:  # of heads, which are short
        raise Unreadable("it is no such file")
    data = file.read(size)
    if len(data) != size:
        raise Unreadable("it ends too early")
    return data


def _bytes(flat: torch.Tensor) -> memoryview | bytes:
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise Unreadable(f"{name} is no type of numbers")
    return found
