"""A checkpoint's model whose weights are read from its safetensors by name, part by part.

Technique: transformers' own loader, given the tensors of one part. It renames, fuses (experts that lie one by one into
one tensor) and casts as it does where a model is loaded whole; a first call with tensors of the meta device finds out
what fits where without reading a weight.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    convert_and_load_state_dict_in_model,
    dot_natural_key,
    rename_source_key,
)
from transformers.modeling_utils import LoadStateDictConfig

from indexscope.errors import IndexscopeError, is_out_of_memory
from indexscope.foreign import COPY_AGAIN, words
from indexscope.storage.inputs.block_config import block_scaled
from indexscope.storage.inputs.block_scaled import WantedTypes, multiplied_out
from indexscope.storage.inputs.model_skeleton import DTYPES, Dtype, load_skeleton, resolve_device, too_large
from indexscope.storage.inputs.quiet import quiet
from indexscope.storage.inputs.safetensors_header import STORED_TYPES, TensorEntry, read_header
from indexscope.storage.inputs.streamed.layers import decoder_layers, nearest
from indexscope.storage.inputs.streamed.stacked import Place, places, read_stacked
from indexscope.storage.inputs.weight_checks import check_loading, refuse_infinite
from indexscope.storage.inputs.weight_files import read_config, weight_files

#: Bytes that a page cache is asked to read ahead at once.
AHEAD = 64 << 20


class StreamedWeights:
    """The weights of a checkpoint folder by part of its model; gradients are off.

    Args:
        path: Folder with config.json and safetensors files.
        dtype: Type of the weights in memory.
        device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N".
        parts: Devices of modules and parameters that go elsewhere, by name.

    Attributes:
        model: Has its modules and computed buffers; weights are on the meta device until they are loaded.
        layers: Its decoder layers, in order.
        bytes_read: Bytes of weights read so far.

    Raises:
        IndexscopeError: As `load_model`, but for weights that are not finite, which `load` finds.
    """

    def __init__(
        self, path: Path, dtype: Dtype = "float32", device: str = "auto", parts: Mapping[str, str] | None = None
    ) -> None:
        self.device = torch.device(resolve_device(device))
        self._devices = {"": self.device, **{name: torch.device(where) for name, where in (parts or {}).items()}}
        self._path, self._dtype = path, DTYPES[dtype]
        self._where: dict[str, tuple[Path, TensorEntry]] = {
            entry.name: (file, entry) for file in weight_files(path) for entry in read_header(file).tensors
        }
        self.bytes_read = 0
        self.model = load_skeleton(path, dtype)
        told = block_scaled(read_config(path))
        self._scaled = None if told is None else multiplied_out(told, WantedTypes(self.model, self._dtype))
        self.layers: Sequence[nn.Module] = list(decoder_layers(self.model))
        self._tied = self._fitted()
        #: Names in the model by name in the files, and the other way round; where what is stacked comes from.
        self._made: dict[str, list[str]] = {}
        self._stacked: dict[str, tuple[Place, ...]] = {}
        self._name()
        self._keys: dict[str, list[str]] = {}
        for key, names in self._made.items():
            for name in names:
                self._keys.setdefault(name, []).append(key)
        self._blank = {
            name: tensor.detach()
            for name, tensor in self.model.state_dict(keep_vars=True).items()
            if isinstance(tensor, torch.Tensor)
        }
        #: Whose each is, and the names of each module's own: a module that an edit takes out has none any more.
        self._holders: dict[str, tuple[nn.Module, str]] = {}
        self._own: dict[nn.Module, list[str]] = {}
        for name in self._blank:
            within, _, own = name.rpartition(".")
            holder = self.model.get_submodule(within)
            self._holders[name] = holder, own
            self._own.setdefault(holder, []).append(name)
        self.model.train(False)
        self.model.requires_grad_(False)

    def load(self, part: nn.Module, deep: bool = True) -> None:
        """Put the weights of a module in their places, and of all modules within it if ``deep``.

        Raises:
            IndexscopeError: They cannot be read, do not fit into the memory of the device, or are not finite.
        """
        wanted = self._names(part, deep)
        sources = {name: self._tied.get(name, name) for name in wanted}
        lacking = [source for source in sources.values() if self._tensor(source).is_meta]
        keys = {key for name in lacking for key in self._keys.get(name, ())}
        beside = {name for key in keys for name in self._made[key] if self._tensor(name).is_meta} - set(wanted)
        for name in dict.fromkeys(lacking):
            if name in self._stacked:
                self._put(name, self._stack(name))
                keys -= {place.key for place in self._stacked[name]}
        self._read(sorted(keys, key=dot_natural_key))
        for name, source in sources.items():
            if name != source:
                self._put(name, self._tensor(source))
        for name in beside:
            self._put(name, self._blank[name])
        if not deep:
            for name in wanted:  # which stay: as a view they would keep a whole file mapped
                self._put(name, self._tensor(name).clone())
        # Looked at each time: that also reads what is only mapped, before anybody computes with it.
        refuse_infinite({name: self._tensor(name) for name in wanted}, self._path)

    def fill(self, part: nn.Module, deep: bool = True) -> None:
        """Put zeros in the places of weights, without reading any."""
        for name in self._names(part, deep):
            if self._blank[name].is_meta:
                blank = self._blank[name]
                self._put(name, torch.zeros(blank.shape, dtype=blank.dtype, device=nearest(self._devices, name)))

    def drop(self, part: nn.Module, deep: bool = True) -> None:
        """Let go of the weights of a module, and of all modules within it if ``deep``."""
        for name in self._names(part, deep):
            self._put(name, self._blank[name])
        _give_back()

    def ahead(self, part: nn.Module) -> None:
        """Have the system read what loading a part will need, while this program does something else."""
        if not hasattr(os, "posix_fadvise"):
            return
        keys = [key for name in self._names(part, deep=True) for key in self._keys.get(self._tied.get(name, name), ())]
        threading.Thread(target=self._advise, args=(keys,), daemon=True).start()

    def bytes_of(self, part: nn.Module) -> int:
        """What a part's weights take in memory."""
        names = (self._tied.get(name, name) for name in self._names(part, deep=True))
        return sum(self._blank[name].numel() * self._blank[name].element_size() for name in names)

    def stored_bytes(self, part: nn.Module) -> int:
        """What is read of the disk for a part."""
        names = {self._tied.get(name, name) for name in self._names(part, deep=True)}
        return self._bytes(key for name in names for key in self._keys.get(name, ()))

    def _names(self, part: nn.Module, deep: bool) -> list[str]:
        return [name for module in (part.modules() if deep else [part]) for name in self._own.get(module, ())]

    def _tensor(self, name: str) -> torch.Tensor:
        holder, own = self._holders[name]
        tensor: torch.Tensor = getattr(holder, own)
        return tensor

    def _put(self, name: str, tensor: torch.Tensor) -> None:
        holder, own = self._holders[name]
        if own in holder._parameters:
            holder._parameters[own] = nn.Parameter(tensor.detach(), requires_grad=False)
        else:
            holder._buffers[own] = tensor

    def _fitted(self) -> dict[str, str]:
        """Fit the checkpoint's tensors to the model's, as loading would, without reading them.

        Returns:
            By name of a tensor of the model that is another one, the other's name.
        """
        stored = {
            name: torch.empty(entry.shape, dtype=_type_of(self._path, entry), device="meta")
            for name, (_, entry) in self._where.items()
        }
        model = self.model
        with quiet():
            info = self._convert(stored, {"": torch.device("meta")})
            self._refuse(info)
            model.mark_tied_weights_as_initialized(info)
            tied = dict(model.all_tied_weights_keys)
            lacking = info.missing_keys - tied.keys()
            model._adjust_missing_and_unexpected_keys(info)
            check_loading(self._path, {**info.to_dict(), "missing_keys": info.missing_keys - tied.keys()}, model)
            # What a checkpoint may lack by transformers' own word is made, as buffers are that it never holds.
            model._move_missing_keys_from_meta_to_device(lacking, None, None, None)
            model._initialize_missing_keys(False)
        for module in model.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and not buffer.is_meta:
                    module._buffers[name] = buffer.to(self.device)
        return tied

    def _name(self) -> None:
        """Find the tensors of the model that each tensor of the files goes into, by the loader's own renaming."""
        state, prefix, mapping = self.model.state_dict(), self.model.base_model_prefix, self._mapping()
        renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
        converters = [one for one in mapping if isinstance(one, WeightConverter)]
        of = {source: one for one in converters for source in one.source_patterns}
        joined: dict[str, dict[str, list[str]]] = {}
        for name in sorted(self._where, key=dot_natural_key):
            first, source = rename_source_key(name, renamings, converters, prefix, state)
            if first not in state and name in state:
                first, source = rename_source_key(name, [], [], base_model_prefix=prefix, meta_state_dict=state)
            several = of[source].target_patterns if source is not None else [first]
            self._made[name] = [first.replace(several[0], other) for other in several]
            if source is not None and self._scaled is None and first in state:
                joined.setdefault(first, {}).setdefault(source, []).append(name)
        for first, stored in joined.items():
            found = places(of[next(iter(stored))], stored, self._where, state[first].shape)
            if found is not None:
                self._stacked[first] = found

    def _mapping(self) -> list[Any]:
        mapping: list[Any] = deepcopy(get_model_conversion_mapping(self.model, None, self._scaled))
        return mapping

    def _config(self, devices: Mapping[str, torch.device]) -> Any:
        return LoadStateDictConfig(
            device_map=dict(devices),
            dtype=self._dtype,
            dtype_plan=self.model._get_dtype_plan(self._dtype),
            weight_mapping=self._mapping(),
            hf_quantizer=self._scaled,
        )

    def _convert(self, tensors: Mapping[str, Any], devices: Mapping[str, torch.device]) -> Any:
        info, _ = convert_and_load_state_dict_in_model(self.model, tensors, self._config(devices))
        return info

    def _read(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        try:
            with self._opened(keys) as slices, quiet():
                info = self._convert(slices, self._devices)
        except SafetensorError as error:
            raise IndexscopeError(self._path, f"has unreadable weights ({words(error)})", COPY_AGAIN) from error
        except Exception as error:
            if is_out_of_memory(error):
                raise too_large(self._path, str(self.device)) from error
            raise
        self._refuse(info)
        self.bytes_read += self._bytes(keys)

    def _stack(self, name: str) -> torch.Tensor:
        try:
            made = read_stacked(self._stacked[name], self._where, self._blank[name]).to(nearest(self._devices, name))
        except Exception as error:
            if is_out_of_memory(error):
                raise too_large(self._path, str(self.device)) from error
            raise
        self.bytes_read += self._bytes(place.key for place in self._stacked[name])
        return made

    def _bytes(self, keys: Iterable[str]) -> int:
        return sum(self._where[key][1].stop - self._where[key][1].start for key in keys)

    def _refuse(self, info: Any) -> None:
        for name, told in info.conversion_errors.items():
            reason = f"weight {name} cannot be made of what is stored ({words(Exception(told.splitlines()[-1]))})"
            raise IndexscopeError(self._path, reason, "use the config.json that belongs to these weights")

    @contextlib.contextmanager
    def _opened(self, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Tensors as the files have them, read when they are looked at; the files are closed with the last of them."""
        with ExitStack() as files:
            opened: dict[Path, Any] = {}
            slices = {}
            for key in keys:
                file = self._where[key][0]
                if file not in opened:
                    opened[file] = files.enter_context(safe_open(file, framework="pt"))
                slices[key] = opened[file].get_slice(key)
            yield slices

    def _advise(self, keys: Sequence[str]) -> None:
        by_file: dict[Path, list[TensorEntry]] = {}
        for key in keys:
            file, entry = self._where[key]
            by_file.setdefault(file, []).append(entry)
        with contextlib.suppress(OSError):  # what is not read ahead is read when it is needed
            for file, entries in by_file.items():
                with file.open("rb") as opened:
                    for entry in sorted(entries, key=lambda one: one.start):
                        for start in range(entry.start, entry.stop, AHEAD):
                            size = min(AHEAD, entry.stop - start)
                            os.posix_fadvise(opened.fileno(), start, size, os.POSIX_FADV_WILLNEED)


@lru_cache(maxsize=1)
def _trim() -> Callable[[int], int] | None:
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    return found


def _give_back() -> None:
    """Have glibc return what it keeps of freed tensors: what it fused one layer from does not fit the next exactly."""
    trim = _trim()
    if trim is not None:
        trim(0)


def _type_of(path: Path, entry: TensorEntry) -> torch.dtype:
    if entry.dtype not in STORED_TYPES:
        reason = f"weight {entry.name} is stored as {entry.dtype}, which is not known"
        raise IndexscopeError(path, reason, "save the model in bfloat16")
    found: torch.dtype = getattr(torch, STORED_TYPES[entry.dtype])
    return found
