"""A study's own metrics in a task: its files run, and the registry told of what they declare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from indexscope.metrics import Declared, MetricsFile, load


def declared_in(files: Sequence[MetricsFile]) -> tuple[Declared, ...]:
    """Everything that the files declare, in their order.

    Raises:
        IndexscopeError: A file does not run or declares nothing.
    """
    return tuple(one for file in files for one in load(file))


def code_of(declared: Iterable[Declared]) -> dict[str, str]:
    """The checksum of the file of each declared function, in an order that counts for nothing."""
    return {f"code of {one.name}": one.digest for one in sorted(declared, key=lambda one: one.name)}


@contextmanager
def own_metrics(files: Sequence[MetricsFile]) -> Iterator[tuple[Declared, ...]]:
    """What the files declare, known to the registry of metrics inside the block.

    Raises:
        IndexscopeError: A file does not run or declares nothing, or a name is taken.
    """
    from indexscope.analysis.custom.family import family_of
    from indexscope.analysis.metrics.registry import declared

    found = declared_in(files)
    with declared(family_of(found)):
        yield found
