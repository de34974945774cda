"""Sorted keys as bytes: the first key, then each key less the one before it, as unsigned LEB128 numbers.

Seven bits a byte, lowest first; a byte below 128 ends a number (DWARF 5, section 7.6). Most gaps take one byte, whose
skewed frequencies Parquet's zstd turns into about as many bits as log2 C(n, k) asks for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
#: Enough for any position below 2^35.
MOST_BYTES = 5


def encode_rows(keys: Integers, counts: Integers) -> list[bytes]:
    r"""Write the sorted keys of many rows.

    Args:
        keys: Distinct keys from 0, ascending within each row, rows one after the other.
        counts: Keys of each row.

    >>> encode_rows(np.array([3, 4, 200, 0]), np.array([3, 0, 1]))
    [b'\x03\x01\xc4\x01', b'', b'\x00']
    """
    gaps = np.diff(keys, prepend=0)
    ends = np.cumsum(counts)
    first = (ends - counts)[counts > 0]
    gaps[first] = keys[first]
    sizes = np.ones(len(gaps), dtype=np.int64)
    for place in range(1, MOST_BYTES):
        sizes += gaps >> 7 * place > 0
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    data = np.empty(offsets[-1], dtype=np.uint8)
    for place in range(MOST_BYTES):
        held = sizes > place
        more = np.where(sizes[held] > place + 1, 128, 0)
        data[offsets[:-1][held] + place] = gaps[held] >> 7 * place & 127 | more
    written, limits = data.tobytes(), offsets[ends]
    return [written[start:end] for start, end in zip((0, *limits[:-1]), limits, strict=False)]


def decode_rows(rows: list[bytes]) -> tuple[Integers, Integers, NDArray[np.bool_]]:
    r"""Read the keys of many rows back.

    Returns:
        Keys of all rows, one after the other; how many each row has; and which rows are sound: they end where a number
        ends, no number is too long, and their keys ascend. If any row is not, no key is to be believed.

    >>> decode_rows([b'\x03\x01\xc4\x01', b'', b'\x80'])
    (array([  3,   4, 200]), array([3, 0, 0]), array([ True,  True, False]))
    """
    from indexscope.analysis.statistics.varint_kernel import decode

    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    return decode(np.frombuffer(b"".join(rows), dtype=np.uint8), lengths, MOST_BYTES)
