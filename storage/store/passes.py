"""The last commit of a unit's pass over a model that is read layer by layer: one file, which is gone with the pass.

It lies in the step's folder, so that any worker that is given the unit goes on from it, and the name of the step tells
model, data and settings. Its first line tells what else has to be the same, the next layer, and whose sequences it is
of; a unit that takes several passes, one after the other, has there what those that are over came to. What follows is
for whoever wrote it. Nothing counts it as a result.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from indexscope.storage.store.keys import StepKey, check_name
from indexscope.storage.store.store import JSON, Store

FOLDER, SUFFIX = "_passes", ".pass"
#: Version of the file. It is raised when what is in it is laid out anew.
FORMAT = 2
#: Bytes of the first line, blanks at its end included.
LINE = 4096


@dataclass(frozen=True)
class Standing:
    """What a pass has come to.

    Attributes:
        by: What has to be the same for whoever goes on: versions and code.
        of: What tells the sequences, and what is made of them.
        layer: Layers that are done.
        layers: Of how many.
        over: What earlier passes of the unit came to, by what tells their sequences.
    """

    by: str
    of: str
    layer: int
    layers: int
    over: Mapping[str, JSON] = field(default_factory=dict)


def pass_file(unit: str) -> str:
    """Name of the file of a unit's pass, relative to its step."""
    return f"{FOLDER}/{check_name(unit, 'unit')}{SUFFIX}"


def unit_of(name: str) -> str | None:
    """The unit of such a file; None for any other.

    >>> unit_of("_passes/shard-00003.pass"), unit_of("tokens/shard-00003.parquet")
    ('shard-00003', None)
    """
    folder, _, file = name.rpartition("/")
    return file.removesuffix(SUFFIX) if folder == FOLDER and file.endswith(SUFFIX) else None


def units_of(store: Store, key: StepKey) -> Sequence[str]:
    """Units of a step that have such a file, in order."""
    names = store.folder.child(key.path).children(FOLDER)
    return [unit for name in names if (unit := unit_of(f"{FOLDER}/{name}")) is not None]


def standing(store: Store, key: StepKey, unit: str) -> Standing | None:
    """What the last commit of a unit's pass says of itself; None where there is none that can be read."""
    with reading(store, key, unit) as (found, _):
        return found


@contextmanager
def reading(store: Store, key: StepKey, unit: str) -> Iterator[tuple[Standing | None, IO[bytes] | None]]:
    """The last commit of a unit's pass, its file after the first line; both None where there is none."""
    try:
        file = store.folder.child(key.path).open(pass_file(unit))
    except FileNotFoundError:
        yield None, None
        return
    with file:
        yield _told(file.read(LINE)), file


@contextmanager
def writing(store: Store, key: StepKey, unit: str, label: str, told: Standing) -> Iterator[IO[bytes]]:
    """Takes a commit of a unit's pass in place of the last one, once the block ends without an error.

    Args:
        store: The store.
        key: The step.
        unit: The unit.
        label: What a person calls the step; kept if this is its first use.
        told: What it says of itself.

    Raises:
        IndexscopeError: The store cannot be written.
        ValueError: What it says of itself is too long.
    """
    line = json.dumps({"format": FORMAT, **vars(told)}).encode()
    if len(line) >= LINE:
        raise ValueError("what earlier passes came to is too long for its first line")
    store.prepare(key, label)
    with store.folder.child(key.path).writing(pass_file(unit)) as file:
        file.write(line.ljust(LINE - 1) + b"\n")
        yield file


def forget(store: Store, key: StepKey, unit: str) -> None:
    """Remove the file of a unit's pass, if there is one."""
    store.folder.child(key.path).remove_unfinished(pass_file(unit))


def _told(line: bytes) -> Standing | None:
    try:
        told = json.loads(line)
        if told.pop("format") != FORMAT:
            return None
        found = Standing(**told)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return found if 0 < found.layer <= found.layers and isinstance(found.over, dict) else None
