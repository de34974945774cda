"""A CUDA device that is none: its tensors compute on the CPU, say that they do not, and refuse what CUDA refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
#: Bytes that it says are free, and that it has.
FREE, TOTAL = 1 << 30, 1 << 31
#: Operations that take tensors of two devices, as CUDA's own do.
_ACROSS = {"copy_", "_to_copy", "to", "set_"}
#: Operations that may take an index on the CPU.
_INDEXED = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"}


#: Functions that make further tensors where they believe their arguments to be.
_MAKING = {torch.nn.functional.one_hot, torch.nn.functional.scaled_dot_product_attention}


class OnCuda(torch.Tensor):
    """A tensor that says it is on the device; ``held`` has its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnCuda:
        made: OnCuda = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=held.device,  # what torch's own code sees, which would look for a driver
            requires_grad=False,
        )
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy  # type: ignore[assignment]

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnCuda({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _do(func, args, kwargs or {})


class _Called(TorchFunctionMode):
    """Sees what is asked for there before torch looks for a driver."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.cuda:
            return _there(args[0])
        place, given = "device", kwargs.get("device")
        if func is torch.Tensor.to and given is None and len(args) > 1:
            given = args[1].device if isinstance(args[1], torch.Tensor) else args[1]
            if isinstance(given, (str, torch.device)):
                place = ""
        back = isinstance(given, (str, torch.device)) and torch.device(given).type == "cpu"
        if (
            func in (torch.Tensor.cpu, torch.Tensor.to)
            and isinstance(args[0], OnCuda)
            and (back or func is torch.Tensor.cpu)
        ):
            return func(args[0].held, *args[1:], **kwargs)
        if func in _MAKING:
            return _do(func, args, kwargs)
        if not _names(given, "cuda"):
            return func(*args, **kwargs)
        if place:
            kwargs["device"] = "cpu"
        else:
            args = (args[0], "cpu", *args[2:])
        return _there(func(*(part.held if isinstance(part, OnCuda) else part for part in args), **kwargs))


def _names(given: Any, kind: str) -> bool:
    return isinstance(given, (str, torch.device)) and torch.device(given).type == kind


def _there(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if isinstance(tensor, OnCuda) else OnCuda(tensor)


def _do(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = getattr(func, "overloadpacket", func).__name__
    tensors = [part for part in tree_flatten((args, kwargs))[0] if isinstance(part, torch.Tensor)]
    there = [part for part in tensors if isinstance(part, OnCuda)]
    here = [part for part in tensors if not isinstance(part, OnCuda) and part.ndim]
    if there and here and name not in _ACROSS and not (name in _INDEXED and isinstance(args[0], OnCuda)):
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got cuda:0 and cpu")
    wanted = kwargs.get("device")
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    target = torch.device(wanted).type if wanted is not None else "cuda" if there else "cpu"
    if name in _INDEXED and not isinstance(args[0], OnCuda):
        if there:
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        target = "cpu"
    bare = [tree_map(lambda part: part.held if isinstance(part, OnCuda) else part, each) for each in (args, kwargs)]
    if name in ("copy_", "set_"):
        func(*bare[0], **bare[1])
        return args[0]
    if name == "_to_copy" and isinstance(args[0], OnCuda) and wanted is None:
        target = "cuda"
    if target == "cuda" and kwargs.get("pin_memory"):
        raise RuntimeError("Only dense CPU tensors can be pinned")
    if name == "histc" and not bare[0][0].is_floating_point():  # which only CUDA counts
        returned = func(bare[0][0].float(), *bare[0][1:], **bare[1]).to(bare[0][0].dtype)
    else:
        returned = func(*bare[0], **bare[1])
    known = {id(part.held): part for part in there}  # what works in place returns what it was given

    def wrapped(part: Any) -> Any:
        if not isinstance(part, torch.Tensor) or isinstance(part, OnCuda):
            return part
        if id(part) in known:
            return known[id(part)]
        return OnCuda(part) if target == "cuda" else part

    return tree_map(wrapped, returned)


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """The model with its weights there."""
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(OnCuda(parameter.detach()), requires_grad=False)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = OnCuda(buffer)
    return model


@contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the device while the block runs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (FREE, TOTAL))
    for name in ("memory_allocated", "memory_reserved", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: 0)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda *_: None)
    # Tensors of inference mode may not be made of others'.
    monkeypatch.setattr(torch.inference_mode, "__enter__", lambda _: None)
    monkeypatch.setattr(torch.inference_mode, "__exit__", lambda *_: None)
    with torch.no_grad(), _Called():
        yield
