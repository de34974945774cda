"""Experts that are one tensor in the model, each read into its place there.

They lie one by one in the files, in float8 with scales of their own or not, or as the model has them. transformers' own
loader makes the same tensor by stacking and joining, with two copies on the way, and all at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

from indexscope.errors import IndexscopeError
from indexscope.foreign import COPY_AGAIN, reading
from indexscope.storage.inputs.block_scaled import grid, multiplied
from indexscope.storage.inputs.safetensors_header import STORED_TYPES, TensorEntry

Where = Mapping[str, tuple[Path, TensorEntry]]
Blocks = tuple[int, int]
_SCALE = "_scale_inv"


@dataclass(frozen=True)
class Place:
    """Where one stored tensor goes, or a part of it.

    Attributes:
        key: Its name in the files.
        expert: Index in the first dimension.
        start: First row.
        stop: Last row + 1.
        part: Index in the first dimension of what is stored; None for all of it.
        scale: Name of the scales that it is to be multiplied by; None without.
    """

    key: str
    expert: int
    start: int
    stop: int
    part: int | None = None
    scale: str | None = None

    def __str__(self) -> str:
        return self.key if self.part is None else f"{self.key}[{self.part}]"


def stacks(converter: WeightConverter) -> bool:
    """Whether a converter of transformers only stacks what it is given, and joins it row by row."""
    first, *others = _steps(converter) or [None]
    joins = len(others) == 1 and type(others[0]) is Concatenate and others[0].dim == 1
    stacked = type(first) is MergeModulelist and first.dim == 0
    return stacked and len(converter.target_patterns) == 1 and (joins or not others)


def places(
    converter: WeightConverter,
    stored: Mapping[str, Sequence[str]],
    where: Where,
    shape: torch.Size,
    blocks: Blocks | None = None,
) -> tuple[Place, ...] | None:
    """Where the tensors go that a converter of transformers would stack, and join row by row.

    Args:
        converter: What makes the one of the many.
        stored: Names in the files by the converter's patterns, in order.
        where: The files.
        shape: Of the tensor in the model.
        blocks: Rows and columns that a scale of float8 is for; None where nothing is scaled.

    Returns:
        None where it does anything else with them.
    """
    patterns = [pattern for pattern in converter.source_patterns if pattern in stored]
    patterns = [pattern for pattern in patterns if blocks is None or not pattern.endswith(_SCALE)]
    if not stacks(converter) or (len(_steps(converter)) == 1 and len(patterns) != 1):
        return None
    if blocks is not None and any("activation_scale" in pattern for pattern in patterns):
        return None
    found, start = [], 0
    for pattern in patterns:
        keys, scales = stored[pattern], _scales(pattern, stored, where, blocks)
        shapes = {where[key][1].shape for key in keys}
        if scales is None or len(keys) != shape[0] or len(shapes) != 1:
            return None
        (one,) = shapes
        if len(one) != 2 or one[1] != shape[-1]:
            return None
        found += [
            Place(key, expert, start, start + one[0], scale=scale)
            for expert, (key, scale) in enumerate(zip(keys, scales, strict=True))
        ]
        start += one[0]
    return tuple(found) if (shape[0], start, shape[-1]) == tuple(shape) else None


def slices(key: str, where: Where, shape: torch.Size) -> tuple[Place, ...] | None:
    """Where the experts go of a stored tensor that is as the model has it; None where it is not."""
    entry = where[key][1]
    if len(shape) != 3 or entry.shape != tuple(shape) or entry.dtype not in STORED_TYPES:
        return None
    return tuple(Place(key, expert, 0, shape[1], part=expert) for expert in range(shape[0]))


def bytes_at(place: Place, where: Where) -> int:
    """What is read for a place."""
    entry = where[place.key][1]
    scale = 0 if place.scale is None else where[place.scale][1].stop - where[place.scale][1].start
    return (entry.stop - entry.start) // (1 if place.part is None else entry.shape[0]) + scale


def read_places(wanted: Sequence[Place], where: Where, made: torch.Tensor, blocks: Blocks | None = None) -> None:
    """Read them into their places, in the order in which they are stored.

    Args:
        wanted: As `places` or `slices` gives them.
        where: The files.
        made: The tensor of all experts, on any device.
        blocks: As in `places`.

    Raises:
        IndexscopeError: A file cannot be read to its end.
    """
    with ExitStack() as opened:
        files = _Files(where, opened)
        for place in sorted(wanted, key=lambda one: files.at(one.key, one.part)):
            own = made[place.expert, place.start : place.stop]
            if place.scale is None and own.device.type == "cpu" and files.type_of(place.key) == own.dtype:
                files.read(place.key, place.part, own)
                continue
            values = torch.empty(own.shape, dtype=files.type_of(place.key))
            files.read(place.key, place.part, values)
            if place.scale is not None:
                assert blocks is not None
                scales = torch.empty(where[place.scale][1].shape, dtype=files.type_of(place.scale))
                files.read(place.scale, None, scales)
                values = multiplied(values, scales, blocks, own.dtype)
            own.copy_(values)


class _Files:
    """Opens each file once."""

    def __init__(self, where: Where, opened: ExitStack) -> None:
        self._where, self._opened = where, opened
        self._files: dict[Path, BinaryIO] = {}

    def type_of(self, key: str) -> torch.dtype:
        """The type that a tensor is stored in."""
        found: torch.dtype = getattr(torch, STORED_TYPES[self._where[key][1].dtype])
        return found

    def at(self, key: str, part: int | None) -> tuple[str, int]:
        """The file, and the place in it where a tensor or a part of it begins."""
        file, entry = self._where[key]
        size = 0 if part is None else (entry.stop - entry.start) // entry.shape[0]
        return str(file), entry.start + (part or 0) * size

    def read(self, key: str, part: int | None, into: torch.Tensor) -> None:
        """Fill a tensor on the CPU, that is laid out in one piece."""
        file, start = self._where[key][0], self.at(key, part)[1]
        with reading(file, COPY_AGAIN):
            if file not in self._files:
                self._files[file] = self._opened.enter_context(file.open("rb", buffering=0))
            _read(self._files[file], start, into.flatten().view(torch.uint8).numpy().data, file)


def _steps(converter: WeightConverter) -> list[Any]:
    """What a converter does, one after the other, but for multiplying float8 by its scales."""
    first, *others = converter.operations
    return others if isinstance(first, Fp8Dequantize) else [first, *others]


def _scales(
    pattern: str, stored: Mapping[str, Sequence[str]], where: Where, blocks: Blocks | None
) -> Sequence[str | None] | None:
    """The scales of each tensor of a pattern, or None for each; None where they are not those of its blocks."""
    keys = stored[pattern]
    types = {where[key][1].dtype for key in keys}
    if blocks is None or not (pattern + _SCALE in stored or "F8_E4M3" in types):
        return [None] * len(keys) if types <= STORED_TYPES.keys() else None
    scales = stored.get(pattern + _SCALE, ())
    if types != {"F8_E4M3"} or len(scales) != len(keys):
        return None
    for key, scale in zip(keys, scales, strict=True):
        entry = where[scale][1]
        if entry.dtype not in ("F32", "BF16", "F16") or entry.shape != grid(where[key][1].shape, blocks):
            return None
    return scales


def _read(opened: BinaryIO, start: int, into: memoryview, file: Path) -> None:
    opened.seek(start)
    done = 0
    while done < len(into):
        got = opened.readinto(into[done:])  # type: ignore[attr-defined]  # which unbuffered files have
        if not got:
            raise IndexscopeError(file, "is shorter than its header says", COPY_AGAIN)
        done += got
