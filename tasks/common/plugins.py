"""A study's own metrics in a task: its files run, and the registry told of what they declare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from indexscope.plugins import Plugin, PluginFile, load


def plugins_in(files: Sequence[PluginFile]) -> tuple[Plugin, ...]:
    """Everything that the files declare, in their order.

    Raises:
        IndexscopeError: A file does not run or declares nothing.
    """
    return tuple(one for file in files for one in load(file))


def code_of(declared: Iterable[Plugin]) -> dict[str, str]:
    """The checksum of the file of each declared function, in an order that counts for nothing."""
    return {f"code of {one.name}": one.digest for one in sorted(declared, key=lambda one: one.name)}


@contextmanager
def with_plugins(files: Sequence[PluginFile]) -> Iterator[tuple[Plugin, ...]]:
    """What the files declare, known to the registry of metrics inside the block.

    Raises:
        IndexscopeError: A file does not run or declares nothing, or a name is taken.
    """
    from indexscope.analysis.metrics.registry import with_family
    from indexscope.analysis.plugins.family import family_of

    found = plugins_in(files)
    with with_family(family_of(found)):
        yield found
