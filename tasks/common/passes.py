"""The pass of a job over a model that is read layer by layer: it goes on from where one that was killed was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO

import indexscope
from indexscope.storage.store import passes
from indexscope.storage.store.json_types import JSON, canonical_json
from indexscope.storage.store.keys import StepKey
from indexscope.storage.store.store import Store
from indexscope.tasks.common.declared import Job
from indexscope.tasks.common.log import tell
from indexscope.tasks.common.versions import versions


@dataclass
class KeptPass:
    """Keeps what the pass of a job has come to; see `indexscope.analysis.capture.streaming.commits.Place`.

    Attributes:
        job: The job.
        alert: Told why a pass does without.
        asked: Whether a pass has asked for the last commit: only the first of a job finds what an earlier job left.
        known: What passes of the job came to that are over, in this job or in the earlier one.
    """

    job: Job
    alert: Callable[[str], None]
    asked: bool = field(default=False, init=False)
    known: dict[str, JSON] = field(default_factory=dict, init=False)

    def over(self, of: str) -> JSON:
        """What a pass of the job came to, if a later one of it was put away; None where none was."""
        target = self.job.target
        found = passes.standing(Store(target.store), target.key, target.unit)
        if found is None or found.by != made_by() or self._of(of) not in found.over:
            return None
        self.known[self._of(of)] = found.over[self._of(of)]
        return found.over[self._of(of)]

    def keep(self, of: str, result: JSON) -> None:
        """Told what a pass came to that is over: it is put away with every later one."""
        self.known[self._of(of)] = result

    @contextmanager
    def last(self, of: str) -> Iterator[IO[bytes] | None]:
        """The last commit of a pass of these sequences, to be read; None where there is none."""
        target, first, self.asked = self.job.target, not self.asked, True
        with passes.reading(Store(target.store), target.key, target.unit) as (found, file):
            if file is None:
                yield None
                return
            why = _unlike(found, self._of(of))
            if why and first:
                self.warn(f"begins anew, since what was put away of it {why}")
            yield None if why else file

    @contextmanager
    def commit(self, of: str, layer: int, layers: int) -> Iterator[IO[bytes]]:
        """Takes a commit in place of the last one."""
        target = self.job.target
        told = passes.Standing(made_by(), self._of(of), layer, layers, dict(self.known))
        with passes.writing(Store(target.store), target.key, target.unit, target.label, told) as file:
            yield file

    def goes_on(self, layer: int, layers: int) -> None:
        """Say where it goes on."""
        tell(_words(self._unit, layer, layers, len(self.known)))

    def warn(self, reason: str) -> None:
        """Say why it does without."""
        self.alert(f"the pass over {self._unit} {reason}")

    def _of(self, sequences: str) -> str:
        """What tells the sequences, and what is made of them along with the unit."""
        return sequences if self.job.along is None else f"{sequences} {self.job.along.target.key.path}"

    @property
    def _unit(self) -> str:
        target = self.job.target
        return target.label if target.alone else target.unit


def under_way(store: Store, key: StepKey, units: Collection[str]) -> list[str]:
    """What the next run goes on with, in a line each: "shard-00003 goes on from layer 17 of 61".

    Of a step that takes several passes a unit, "... in its pass 2".

    Args:
        store: The store.
        key: A step that runs a model.
        units: Those that are not committed.
    """
    found = [(unit, passes.standing(store, key, unit)) for unit in passes.units_of(store, key) if unit in units]
    there = [(unit, one) for unit, one in found if one is not None and one.by == made_by()]
    return [_words(unit, one.layer, one.layers, len(one.over)) for unit, one in there]


def made_by() -> str:
    """What has to be the same for a pass to go on, beside what the step's address tells: versions and code."""
    return hashlib.sha256(canonical_json({"versions": versions(), "code": _code()}).encode()).hexdigest()


def _words(unit: str, layer: int, layers: int, over: int) -> str:
    where = f"from layer {layer + 1} of {layers}" if layer < layers else "behind its last layer"
    return f"{unit} goes on {where}{f' in its pass {over + 1}' if over else ''}"


def _unlike(found: passes.Standing | None, of: str) -> str:
    """Why a commit is not one to go on from; "" if it is."""
    if found is None:
        return "cannot be read"
    if found.by != made_by():
        return "is of another version"
    return "" if found.of == of else "is of other sequences or chunks, or makes something else of them"


@cache
def _code() -> str:
    """Checksum of this package's code: what it puts away is no format that lasts."""
    digest = hashlib.sha256()
    root = Path(indexscope.__file__).parent
    for room in ("analysis", "storage", "tasks"):
        for file in sorted((root / room).rglob("*.py")):
            digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return digest.hexdigest()
