"""Changing something of a model so that it can be put back."""

from __future__ import annotations

from contextlib import ExitStack


def put(of: object, name: str, value: object, undo: ExitStack) -> None:
    """Set an attribute that is there; what it was goes back when ``undo`` is closed."""
    undo.callback(setattr, of, name, getattr(of, name))
    setattr(of, name, value)
