"""The version that a module of analysis declares, without importing what computes: every run asks for it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import indexscope


def version_of(module: str, name: str = "VERSION") -> Callable[[], int]:
    """What asks for the version of a module: a number in a statement of its own, read from the module's text.

    Args:
        module: Full name of a module of this package.
        name: What it calls its version; 1 where it has none.
    """

    def version() -> int:
        declared = None if module in sys.modules else _written(module, name)
        return int(getattr(import_module(module), name, 1)) if declared is None else declared

    return version


def _written(module: str, name: str) -> int | None:
    """The number that a module's text gives a name; None where only importing it tells."""
    parts = module.split(".")[1:]
    file = Path(indexscope.__file__).parent.joinpath(*parts).with_suffix(".py")
    if not file.is_file():
        return None
    text = file.read_text("utf-8")
    line = next((line for line in text.splitlines() if line.startswith(f"{name} = ")), None)
    if line is None:
        return None
    try:
        value = ast.literal_eval(line.partition("=")[2].strip())
    except (SyntaxError, ValueError):
        return None
    return value if type(value) is int else None
