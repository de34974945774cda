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
        examples: One or two lines as a user would type them; the command's help ends with them.
    """

    name: str
    call: Callable[..., None]
    place: int
    examples: tuple[str, ...]

    @property
    def epilog(self) -> str:
        """The end of the help."""
        # \b keeps click from filling the lines up.
        return "\n".join(
            ["\b", "Example:" if len(self.examples) == 1 else "Examples:", *(f"  {line}" for line in self.examples)]
        )
