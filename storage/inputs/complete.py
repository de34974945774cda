"""Whether a checkpoint is written to its end: one that a training is still writing is left for the next look."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs.safetensors_header import read_header
from indexscope.storage.inputs.weight_files import read_config, weight_files

Kind = Literal["checkpoint", "indexer", "any"]
SAFETENSORS = ".safetensors"


def unfinished(path: str | os.PathLike[str], kind: Kind, settled_for: float, now: float) -> str:
    """Why a checkpoint may not be complete; "" where it is.

    Files that are written in place tell by their headers; what no header tells, such as a copy that goes on, by when it
    last changed.

    Args:
        path: A folder, or of kind "any" a file too.
        kind: checkpoint: config.json and all weight files, as long as their headers say. indexer: a fitted indexer's
            two files. any: whatever there is.
        settled_for: Seconds that no file may have changed for.
        now: The time, in seconds since 1970.
    """
    place = Path(path)
    if kind != "any" and not place.is_dir():
        return "is no folder"
    try:
        for file in _weights(place, kind):
            read_header(file)
        changed = max((file.stat().st_mtime for file in _files(place)), default=None)
    except IndexscopeError as error:
        # A reason may be about a file inside: then it is named.
        return error.reason if Path(error.where) == place else f"is not whole ({Path(error.where).name} {error.reason})"
    except OSError:
        return "changes as it is read"
    if changed is None:
        return "is empty"
    if now - changed < settled_for:
        return f"changed less than {settled_for:g} s ago"
    return ""


def _weights(place: Path, kind: Kind) -> list[Path]:
    """The weight files whose headers tell whether they are whole."""
    if kind == "checkpoint":
        read_config(place)
        return weight_files(place)
    if kind == "indexer":
        from indexscope.storage.inputs.fitted import DESCRIPTION, WEIGHTS

        for name in (DESCRIPTION, WEIGHTS):
            if not (place / name).is_file():
                raise IndexscopeError(place, f"has no {name}", "wait until it is written")
        return [place / WEIGHTS]
    return [file for file in _files(place) if file.suffix == SAFETENSORS]


def _files(place: Path) -> Iterator[Path]:
    """The file, or all files of the folder."""
    if place.is_file():
        yield place
    for folder, _, names in os.walk(place):
        yield from (Path(folder, name) for name in names)


def stamp(path: str | os.PathLike[str]) -> frozenset[tuple[str, int, int]]:
    """Name, size and time of the last change of each file of a checkpoint: another one is another content."""
    place, found = Path(path), set[tuple[str, int, int]]()
    for file in _files(place):
        with suppress(OSError):  # it is being replaced: the next look sees it
            told = file.stat()
            found.add((os.path.relpath(file, place), told.st_size, told.st_mtime_ns))
    return frozenset(found)
