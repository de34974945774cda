"""What the questions bring along: each is a folder of `analysis`, and its parts are found there and listed nowhere."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TypeVar

from indexscope import analysis

T = TypeVar("T")


def declared(part: str, kind: type[T]) -> list[T]:
    """All that the questions declare of one kind.

    Args:
        part: The module or package that declares it, in every folder that has one: ``metrics``, ``panel`` or
            ``collect``.
        kind: Its class.
    """
    return [value for folder in _folders(part) for value in found(f"{analysis.__name__}.{folder}.{part}", kind)]


def found(name: str, kind: type[T]) -> list[T]:
    """What a module, or every module of a package, declares of one kind."""
    module = import_module(name)
    inside = [import_module(f"{name}.{one.name}") for one in iter_modules(getattr(module, "__path__", ()))]
    return [value for one in inside or [module] for value in vars(one).values() if isinstance(value, kind)]


def settings(base: type[T]) -> dict[str, type[T]]:
    """The settings of every question that is analysed, which its folder itself declares; by name.

    Args:
        base: What all settings are.
    """
    found = {folder: vars(import_module(f"{analysis.__name__}.{folder}")) for folder in _folders("run")}
    return {
        folder: value
        for folder, values in found.items()
        for value in values.values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == values["__name__"]
    }


def _folders(part: str) -> list[str]:
    """The folders that have a module of that name."""
    return sorted(
        folder.name
        for folder in iter_modules(analysis.__path__)
        if folder.ispkg
        and part
        in {module.name for module in iter_modules([str(Path(place, folder.name)) for place in analysis.__path__])}
    )
