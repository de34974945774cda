"""Where errors of others become ours: whatever the system or a parser raises over what a user gave, as one line.

Readers of files, paths, JSON, YAML and Parquet wrap the call that may fail in `reading`; nothing else there catches.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from indexscope.errors import IndexscopeError, one_line, shortened

#: Characters of a foreign message that are passed on.
LONGEST_WORDS = 300
#: Levels of nesting that JSON or YAML may have; whatever walks it later recurses, and Python ends at about 1000.
DEEPEST = 100
#: Bytes of a text file that is parsed as a whole.
LONGEST_FILE = 2**27
Errors: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]
COPY_AGAIN = "copy or download the checkpoint again"


def words(error: BaseException) -> str:
    """What an error says, without the type and the path that Python puts around it; never empty, never long.

    >>> words(FileNotFoundError(2, "No such file or directory", "/x")), words(OSError(28, None)), words(KeyError())
    ('No such file or directory', 'No space left on device', 'KeyError')
    """
    said = ""
    if isinstance(error, OSError):
        said = error.strerror or (os.strerror(error.errno) if error.errno else "")
    elif isinstance(error, UnicodeDecodeError):
        said = f"byte {error.start} is not {error.encoding.upper()}"
    elif isinstance(error, KeyError):
        said = f"{error} is missing" if error.args else ""
    elif "set_int_max_str_digits" in str(error):
        said = "a number has thousands of digits"
    elif isinstance(error, RecursionError):
        said = "it is nested too deeply"
    return shortened(one_line(said or error) or type(error).__name__, LONGEST_WORDS)


@contextmanager
def reading(
    where: object,
    remedy: str,
    reason: str = "cannot be read",
    passing: Errors = (),
) -> Iterator[None]:
    """Turn whatever is raised in the block into one line; keep nothing but foreign calls in it.

    Args:
        where: The file or setting that is read.
        remedy: What the user can do.
        reason: What is wrong with it; the error's own words follow in brackets.
        passing: Errors that the caller wants to see as they are.

    Raises:
        IndexscopeError: Anything else was raised. An IndexscopeError stays as it is.
    """
    try:
        yield
    except IndexscopeError:
        raise
    except passing:
        raise
    except BaseException as error:
        # A panic of a Rust library (tokenizers, polars) is no Exception to Python.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise IndexscopeError(where, f"{reason} ({words(error)})", remedy) from error


def read_file(
    path: str | os.PathLike[str],
    remedy: str,
    where: object = None,
    longest: int = LONGEST_FILE,
    passing: Errors = (),
    streams: bool = False,
) -> bytes:
    """Read a file that is to be parsed as a whole.

    Args:
        path: The file.
        remedy: What the user can do if it cannot be read.
        where: What messages call it; by default the path.
        longest: Bytes that it may have.
        passing: Errors that the caller wants to see as they are.
        streams: Accept a pipe or a device too, which may let its reader wait.

    Raises:
        IndexscopeError: It cannot be read, is no file, or is longer.
    """
    with reading(path if where is None else where, remedy, passing=passing):
        if not streams and not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("it is no file")
        # Without buffering: a buffered reader asks a device for more than is wanted.
        with open(path, "rb", buffering=0) as file:
            data = bytearray()
            while len(data) <= longest and (piece := file.read(min(2**20, longest + 1 - len(data)))):
                data += piece
        if len(data) > longest:
            raise ValueError(f"it is longer than {longest:,} bytes")
    return bytes(data)


def parse_json(data: bytes | str, where: object, remedy: str, reason: str = "is not valid JSON") -> Any:
    """Read strict JSON: no NaN or infinity, no key twice, at most `DEEPEST` levels.

    Args:
        data: The text.
        where: The file, for messages.
        remedy: What the user can do.
        reason: What is said of a file that is none.

    Raises:
        IndexscopeError: It is something else.
    """
    with reading(where, remedy, reason):
        content = json.loads(data, object_pairs_hook=_object)
        _check_numbers(content)
    return content


def read_json(path: Path, remedy: str = COPY_AGAIN, reason: str = "is not valid JSON") -> Any:
    """Read a file of strict JSON.

    Raises:
        IndexscopeError: It cannot be read, or is none.
    """
    return parse_json(read_file(path, remedy), path, remedy, reason)


def json_object(data: bytes) -> dict[str, Any] | None:
    """The object that bytes hold as strict JSON; None if they hold anything else."""
    try:
        content = parse_json(data, "", "")
    except IndexscopeError:
        return None
    return content if isinstance(content, dict) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"key {name!r} occurs twice")
        found[name] = value
    return found


def _check_numbers(content: object) -> None:
    """Refuse what no JSON writer may write, by its place. Not recursive, since the content may be deep."""
    waiting: list[tuple[object, tuple[object, ...]]] = [(content, ())]
    while waiting:
        value, place = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{'.'.join(map(str, place)) or 'it'} is {json.dumps(value)}, which JSON does not have")
        if isinstance(value, (dict, list)):
            if len(place) >= DEEPEST:
                raise ValueError("it is nested too deeply")
            items = value.items() if isinstance(value, dict) else enumerate(value)
            waiting.extend((item, (*place, name)) for name, item in items if isinstance(item, (dict, list, float)))
