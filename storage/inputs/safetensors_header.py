"""What a safetensors file says of itself, read without loading a tensor and checked against the file's size.

Format: eight bytes of little-endian header length, a JSON header, the data. See
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexscope.errors import IndexscopeError
from indexscope.foreign import COPY_AGAIN, parse_json, reading

#: The format's own limit.
LONGEST_HEADER = 100_000_000
#: What the format calls torch's types.
STORED_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "C64": "complex64",
}  # fmt: skip
UNREADABLE = "has an unreadable safetensors header"


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file: name, dtype as written there, shape, and its bytes in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file: its own text, the file's size in bytes, and its tensors by offset."""

    text: bytes
    size: int
    tensors: tuple[TensorEntry, ...]


def read_header(path: Path) -> Header:
    """Read and check the header of a file.

    Raises:
        IndexscopeError: The file is no safetensors file, or shorter or longer than its header says.
    """
    with reading(path, COPY_AGAIN):
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(LONGEST_HEADER, size - 8):
                raise IndexscopeError(path, f"is truncated or no safetensors file ({size} bytes)", COPY_AGAIN)
            text = file.read(length)
    content = parse_json(text, path, COPY_AGAIN, UNREADABLE)
    with reading(path, COPY_AGAIN, UNREADABLE):
        entries = [_entry(name, value, 8 + length) for name, value in content.items() if name != "__metadata__"]
    tensors = tuple(sorted(entries, key=lambda entry: (entry.start, entry.stop)))
    end = max((entry.stop for entry in tensors), default=8 + length)
    if end != size:
        raise IndexscopeError(path, f"is truncated or damaged: {size} bytes where its header says {end}", COPY_AGAIN)
    return Header(text, size, tensors)


def _entry(name: str, value: dict[str, Any], offset: int) -> TensorEntry:
    start, stop = value["data_offsets"]
    shape = tuple(value["shape"])
    if not all(type(number) is int and number >= 0 for number in (start, stop, *shape)) or start > stop:
        raise ValueError(f"tensor {name!r} has no plain shape and offsets")
    return TensorEntry(name, str(value["dtype"]), shape, offset + start, offset + stop)
