"""What a command is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command, declared by the file that holds it.

    Attributes:
        name: What the user types.
        call: What it does; its parameters are the arguments and options, its docstring the help.
        place: Where it stands in the help, after those with smaller numbers.
    """

    name: str
    call: Callable[..., None]
    place: int
