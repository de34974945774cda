"""A checkpoint's model whose weights are read from its safetensors by name, part by part.

Technique: transformers' own loader, given the tensors of one part. It renames, fuses (experts that lie one by one into
one tensor) and casts as it does where a model is loaded whole; a first call with tensors of the meta device finds out
what fits where without reading a weight.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from copy import deepcopy
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
from indexscope.heap import give_back
from indexscope.storage.inputs.block_config import block_scaled, blocks_of
from indexscope.storage.inputs.block_scaled import WantedTypes, multiplied_out
from indexscope.storage.inputs.model_skeleton import DTYPES, Dtype, load_skeleton, resolve_device, too_large
from indexscope.storage.inputs.quiet import quiet
from indexscope.storage.inputs.safetensors_header import STORED_TYPES, TensorEntry, read_header
from indexscope.storage.inputs.streamed import blank
from indexscope.storage.inputs.streamed.layers import decoder_layers, nearest
from indexscope.storage.inputs.streamed.routed import asked_for, fused, met
from indexscope.storage.inputs.streamed.stacked import Place, bytes_at, places, read_places, slices
from indexscope.storage.inputs.weight_checks import check_loading, refuse_infinite
from indexscope.storage.inputs.weight_files import read_config, weight_files

#: Bytes that a page cache is asked to read ahead at once.
AHEAD = 64 << 20
#: The share of a layer's experts that a pass must be expected to meet for experts to be read ahead. Below it, most of
#: what is read ahead would be read for nothing, and what is needed costs less to wait for.
MOST = 0.5


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
        self._blocks = None if told is None else blocks_of(told)
        self.layers: Sequence[nn.Module] = list(decoder_layers(self.model))
        self._tied = self._fitted()
        #: Names in the model by name in the files, and the other way round; where what is stacked comes from, and what
        #: is stored as the model has it.
        self._made: dict[str, list[str]] = {}
        self._stacked: dict[str, tuple[Place, ...]] = {}
        self._sliced: dict[str, tuple[Place, ...]] = {}
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
        #: Tensors of experts that can be read one by one, by their module; of those that are not whole, what is there.
        self._experts = {module: found for module in self._own if (found := self._one_by_one(module))}
        self._there: dict[str, set[int]] = {}
        self._by_routing = False
        self.model.train(False)
        self.model.requires_grad_(False)

    def load(self, part: nn.Module, deep: bool = True) -> None:
        """Put the weights of a module in their places, and of all modules within it if ``deep``.

        In the places of experts that are to be loaded by routing there are zeros, which take no memory on the CPU.

        Raises:
            IndexscopeError: They cannot be read, do not fit into the memory of the device, or are not finite.
        """
        later = self._later(part, deep)
        wanted = [name for name in self._names(part, deep) if name not in later]
        sources = {name: self._tied.get(name, name) for name in wanted}
        lacking = [source for source in sources.values() if self._tensor(source).is_meta]
        keys = {key for name in lacking for key in self._keys.get(name, ())}
        beside = {name for key in keys for name in self._made[key] if self._tensor(name).is_meta} - set(wanted)
        for name in dict.fromkeys(lacking):
            if name in self._stacked:
                self._put(name, self._stack(name))
                keys -= {key for place in self._stacked[name] for key in (place.key, place.scale)}
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
        for name in later:
            if self._tensor(name).is_meta:
                self._put(name, self._zeros(name))
                self._there[name] = set()

    def routed(self) -> Sequence[nn.Module]:
        """From now on leave out experts where they can be loaded as tokens are routed to them; says in which modules.

        Whoever asks calls `lacking` and `load_experts` before each call of such a module.
        """
        self._by_routing = True
        return list(self._experts)

    def lacking(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> set[int]:
        """Experts that a call of a module needs and that are not there yet, with these arguments."""
        some = [name for name in self._experts[module] if name in self._there]
        if all(len(self._there[name]) == self._blank[name].shape[0] for name in some):
            return set()
        wanted = asked_for(module, args, kwargs)
        return {expert for expert in wanted if any(expert not in self._there[name] for name in some)}

    @torch.inference_mode()
    def load_experts(self, module: nn.Module, experts: Set[int]) -> None:
        """Put the weights of some experts of a module in their places; those that are not asked for stay unread.

        Raises:
            IndexscopeError: As `load`.
        """
        for name in self._experts[module]:
            there = self._there.get(name)
            new = set() if there is None else experts - there
            if not new:
                continue
            wanted, made = [place for place in self._places(name) if place.expert in new], self._tensor(name)
            self._read_places(wanted, made)
            refuse_infinite({str(one): made[one.expert, one.start : one.stop] for one in wanted}, self._path)
            self._there[name] |= new

    def fill(self, part: nn.Module, deep: bool = True) -> None:
        """Put zeros in the places of weights, without reading any."""
        for name in self._names(part, deep):
            if self._blank[name].is_meta:
                self._put(name, self._zeros(name))
                self._there.pop(name, None)

    def drop(self, part: nn.Module, deep: bool = True) -> None:
        """Let go of the weights of a module, and of all modules within it if ``deep``."""
        for name in self._names(part, deep):
            self._put(name, self._blank[name])
            self._there.pop(name, None)
        give_back()

    def ahead(self, part: nn.Module, tokens: int) -> None:
        """Have the system read what a part will need of a pass, while this program does something else.

        Experts that are loaded by routing are among it where so many tokens are expected to be routed to most of them.
        """
        if not hasattr(os, "posix_fadvise"):
            return
        most = met(self.model.config.get_text_config(decoder=True), tokens) >= MOST
        names = set(self._names(part, deep=True)) - (set() if most else self._later(part, deep=True))
        keys = [key for name in sorted(names) for key in self._keys.get(self._tied.get(name, name), ())]
        threading.Thread(target=self._advise, args=(keys,), daemon=True).start()

    def bytes_of(self, part: nn.Module) -> int:
        """What a part's weights take in memory, all experts included."""
        names = (self._tied.get(name, name) for name in self._names(part, deep=True))
        return sum(self._blank[name].numel() * self._blank[name].element_size() for name in names)

    def stored_bytes(self, part: nn.Module) -> int:
        """What is read of the disk for a part, all experts included."""
        names = {self._tied.get(name, name) for name in self._names(part, deep=True)}
        return self._bytes(key for name in names for key in self._keys.get(name, ()))

    def _names(self, part: nn.Module, deep: bool) -> list[str]:
        return [name for module in (part.modules() if deep else [part]) for name in self._own.get(module, ())]

    def _one_by_one(self, module: nn.Module) -> tuple[str, ...]:
        """Names in the model of a module's tensors of experts that can be read one by one."""
        own = {self._holders[name][1]: name for name in self._own[module] if name not in self._tied}
        return tuple(own[name] for name in fused(module) if name in own and self._places(own[name]))

    def _later(self, part: nn.Module, deep: bool) -> set[str]:
        """Names of what is loaded by routing."""
        modules = (part.modules() if deep else [part]) if self._by_routing else []
        return {name for module in modules for name in self._experts.get(module, ())}

    def _places(self, name: str) -> tuple[Place, ...]:
        return self._stacked.get(name) or self._sliced.get(name, ())

    def _zeros(self, name: str) -> torch.Tensor:
        like = self._blank[name]
        with self._room():
            return blank.zeros(like.shape, like.dtype, nearest(self._devices, name))

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
            if source is not None and first in state:
                joined.setdefault(first, {}).setdefault(source, []).append(name)
            elif first in state:
                self._sliced[first] = slices(name, self._where, state[first].shape) or ()
        for first, stored in joined.items():
            found = places(of[next(iter(stored))], stored, self._where, state[first].shape, self._blocks)
            if found is not None and (self._scaled is None or self._scaled.dtypes.of(first) == state[first].dtype):
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
            with self._room(), self._opened(keys) as stored, quiet():
                info = self._convert(stored, self._devices)
        except SafetensorError as error:
            raise IndexscopeError(self._path, f"has unreadable weights ({words(error)})", COPY_AGAIN) from error
        self._refuse(info)
        self.bytes_read += self._bytes(keys)

    def _stack(self, name: str) -> torch.Tensor:
        like = self._blank[name]
        with self._room():
            made = torch.empty(like.shape, dtype=like.dtype)
            self._read_places(self._stacked[name], made)
            return made.to(nearest(self._devices, name))

    def _read_places(self, wanted: Sequence[Place], made: torch.Tensor) -> None:
        with self._room():
            read_places(wanted, self._where, made, self._blocks)
        self.bytes_read += sum(bytes_at(place, self._where) for place in wanted)

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        """Says in one line where memory ran out."""
        try:
            yield
        except Exception as error:
            if is_out_of_memory(error):
                raise too_large(self._path, str(self.device)) from error
            raise

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


def _type_of(path: Path, entry: TensorEntry) -> torch.dtype:
    if entry.dtype not in STORED_TYPES:
        reason = f"weight {entry.name} is stored as {entry.dtype}, which is not known"
        raise IndexscopeError(path, reason, "save the model in bfloat16")
    found: torch.dtype = getattr(torch, STORED_TYPES[entry.dtype])
    return found
