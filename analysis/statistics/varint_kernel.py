"""Reading LEB128 numbers, one byte after the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.compiled import exact


@exact
def decode(
    data: NDArray[np.uint8], lengths: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Keys of rows of bytes, see `indexscope.analysis.statistics.varint.decode_rows`.

    Args:
        data: All rows, one after the other.
        lengths: Bytes of each.
        most: Bytes of the longest number.
    """
    numbers = 0
    for at in range(len(data)):
        numbers += data[at] < 128
    keys = np.empty(numbers, np.int64)
    counts = np.zeros(len(lengths), np.int64)
    sound = np.ones(len(lengths), np.bool_)
    place = start = 0
    for row in range(len(lengths)):
        key, gap, size = np.int64(0), np.int64(0), 0
        for at in range(start, start + lengths[row]):
            if size < most:
                gap |= np.int64(data[at] & 127) << 7 * size
            size += 1
            if data[at] < 128:
                if size > most or (counts[row] and not gap):
                    sound[row] = False
                key += gap
                keys[place] = key
                place += 1
                counts[row] += 1
                gap, size = np.int64(0), 0
        if size:
            sound[row] = False
        start += lengths[row]
    return keys, counts, sound
