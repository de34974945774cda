"""The command version."""

from __future__ import annotations

import typer

from indexscope import __version__
from indexscope.flows.cli.declared import Command


def version() -> None:
    """Print the version."""
    typer.echo(__version__)


COMMAND = Command(
    "version",
    version,
    place=160,
    examples=("indexscope version",),
)
