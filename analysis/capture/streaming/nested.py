"""Tensors in what layers take and return: alone, or in tuples, lists and mappings."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any


def mapped(change: Callable[[Any], Any], held: Any, kind: type) -> Any:
    """The same structure with everything of a kind changed.

    >>> mapped(lambda number: number + 1, (1, [2, None], {"a": 3}), int)
    (2, [3, None], {'a': 4})
    """
    if isinstance(held, kind):
        return change(held)
    if isinstance(held, tuple):
        parts = [mapped(change, one, kind) for one in held]
        return type(held)(*parts) if hasattr(held, "_fields") else tuple(parts)
    if isinstance(held, list):
        return [mapped(change, one, kind) for one in held]
    if isinstance(held, (dict, UserDict)):
        return {key: mapped(change, one, kind) for key, one in held.items()}
    return held


def found(held: Any, kind: type) -> Iterator[Any]:
    """Everything of a kind in a structure, in order.

    >>> list(found((1, [2, None], {"a": 3}), int))
    [1, 2, 3]
    """
    if isinstance(held, kind):
        yield held
    elif isinstance(held, (tuple, list)):
        for one in held:
            yield from found(one, kind)
    elif isinstance(held, (dict, UserDict)):
        for one in held.values():
            yield from found(one, kind)
