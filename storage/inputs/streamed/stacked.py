"""Experts that lie one by one in the files and are one tensor in the model: each is read into its place there.

transformers' own loader makes the same tensor of them by stacking and joining, with two copies on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter

from indexscope.errors import IndexscopeError
from indexscope.foreign import COPY_AGAIN, reading
from indexscope.storage.inputs.safetensors_header import STORED_TYPES, TensorEntry

Where = Mapping[str, tuple[Path, TensorEntry]]


@dataclass(frozen=True)
class Place:
    """Where one stored tensor goes.

    Attributes:
        key: Its name in the files.
        expert: Index in the first dimension.
        start: First row.
        stop: Last row + 1.
    """

    key: str
    expert: int
    start: int
    stop: int


def stacks(converter: WeightConverter) -> bool:
    """Whether a converter of transformers only stacks what it is given, and joins it row by row."""
    first, *others = converter.operations
    joins = len(others) == 1 and type(others[0]) is Concatenate and others[0].dim == 1
    stacked = type(first) is MergeModulelist and first.dim == 0
    return stacked and len(converter.target_patterns) == 1 and (joins or not others)


def places(
    converter: WeightConverter, stored: Mapping[str, Sequence[str]], where: Where, shape: torch.Size
) -> tuple[Place, ...] | None:
    """Where the tensors go that a converter of transformers would stack, and join row by row.

    Args:
        converter: What makes the one of the many.
        stored: Names in the files by the converter's patterns, in order.
        where: The files.
        shape: Of the tensor in the model.

    Returns:
        None where it does anything else with them.
    """
    patterns = [pattern for pattern in converter.source_patterns if pattern in stored]
    if not stacks(converter) or (len(converter.operations) == 1 and len(patterns) != 1):
        return None
    found, start = [], 0
    for pattern in patterns:
        shapes = {where[key][1].shape for key in stored[pattern]}
        if len(stored[pattern]) != shape[0] or len(shapes) != 1:
            return None
        (one,) = shapes
        if len(one) != 2 or one[1] != shape[-1]:
            return None
        found += [Place(key, expert, start, start + one[0]) for expert, key in enumerate(stored[pattern])]
        start += one[0]
    return tuple(found) if (shape[0], start, shape[-1]) == tuple(shape) else None


def read_stacked(wanted: Sequence[Place], where: Where, like: torch.Tensor) -> torch.Tensor:
    """Read them.

    Args:
        wanted: As `places` gives them.
        where: The files.
        like: Has the shape and type of what they make.

    Raises:
        IndexscopeError: A file cannot be read to its end.
    """
    made = torch.empty(like.shape, dtype=like.dtype)
    files: dict[Path, BinaryIO] = {}
    with ExitStack() as opened:
        for place in wanted:
            file, entry = where[place.key]
            own = made[place.expert, place.start : place.stop]
            kind = getattr(torch, STORED_TYPES[entry.dtype])
            into = own if kind == own.dtype else torch.empty(entry.shape, dtype=kind)
            with reading(file, COPY_AGAIN):
                if file not in files:
                    files[file] = opened.enter_context(file.open("rb", buffering=0))
                _read(files[file], entry.start, into.flatten().view(torch.uint8).numpy().data, file)
            if into is not own:
                own.copy_(into)
    return made


def _read(opened: BinaryIO, start: int, into: memoryview, file: Path) -> None:
    opened.seek(start)
    done = 0
    while done < len(into):
        got = opened.readinto(into[done:])  # type: ignore[attr-defined]  # which unbuffered files have
        if not got:
            raise IndexscopeError(file, "is shorter than its header says", COPY_AGAIN)
        done += got
