"""What the header of a .npy array says, wherever the array lies."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.lib import format as npy

from indexscope.errors import IndexscopeError
from indexscope.foreign import reading
from indexscope.storage.inputs.selections.record import GUIDE

#: Bytes that hold any header of an array of numbers.
LONGEST_HEADER = 4096


@dataclass(frozen=True)
class Header:
    """What an array's header says.

    Attributes:
        shape: Its shape.
        dtype: Its type.
        size: Bytes of the header.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    size: int


def header_of(data: bytes, where: str) -> Header:
    """Read the header of an array from its first bytes.

    Raises:
        IndexscopeError: They are no array's, or the array is stored by columns.
    """
    source = io.BytesIO(data)
    with reading(where, GUIDE, "is no .npy array"):
        version = npy.read_magic(source)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(source)
    if fortran and len(shape) > 1:
        raise IndexscopeError(where, "is stored by columns", "save it with numpy.ascontiguousarray")
    return Header(shape, dtype, source.tell())


def selections_header(data: bytes, where: str) -> Header:
    """The header of an array of selections, [tokens, layers, k].

    Raises:
        IndexscopeError: It has another shape, or no integers.
    """
    header = header_of(data, where)
    if len(header.shape) != 3 or not all(header.shape):
        raise IndexscopeError(where, f"has the shape {list(header.shape)}, not [tokens, layers, k]", GUIDE)
    if header.dtype.kind not in "iu":
        raise IndexscopeError(where, f"holds {header.dtype}, not integers", GUIDE)
    return header


def rows_of(data: bytes, dtype: str, rows: int, where: str) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    """Bytes of an array as int32, [rows, numbers of a row]; what 32 bits do not hold becomes the largest number.

    Raises:
        IndexscopeError: There are fewer bytes than there should be.
    """
    with reading(where, "write the dump again", "is cut off"):
        found = np.frombuffer(data, np.dtype(dtype)).reshape(rows, -1)
    limits = np.iinfo(np.int32)
    if found.dtype == np.int32:
        return found
    return np.clip(found.astype(np.int64), limits.min, limits.max).astype(np.int32)
