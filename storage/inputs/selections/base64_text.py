"""Numbers within a file as base64 text: any stretch of them by arithmetic, since four characters are three bytes."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from indexscope.errors import IndexscopeError
from indexscope.foreign import reading

REMEDY = "write the dump again"


def decoded_size(path: Path, start: int, stop: int, where: str) -> int:
    """Bytes that the text from start to stop stands for.

    Raises:
        IndexscopeError: It is no whole number of groups of four characters.
    """
    length = stop - start
    if length % 4:
        raise IndexscopeError(where, "holds base64 text that is cut off", REMEDY)
    with reading(path, REMEDY), path.open("rb") as file:
        file.seek(max(start, stop - 2))
        padding = file.read(min(2, length)).count(b"=")
    return length // 4 * 3 - padding


def decoded(path: Path, start: int, first: int, last: int, where: str) -> bytes:
    """Bytes first .. last - 1 of what text at an offset of a file stands for.

    Args:
        path: The file.
        start: Offset of the text's first character.
        first: First byte.
        last: Byte after the last one.
        where: The record.

    Raises:
        IndexscopeError: It is no base64 text.
    """
    skipped = first // 3
    with reading(path, REMEDY), path.open("rb") as file:
        file.seek(start + 4 * skipped)
        text = file.read(4 * (-(-last // 3) - skipped))
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise IndexscopeError(where, f"holds what is no base64 text ({error})", REMEDY) from None
    found = data[first - 3 * skipped : last - 3 * skipped]
    if len(found) != last - first:
        raise IndexscopeError(where, "holds base64 text that is cut off", REMEDY)
    return found
