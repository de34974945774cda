"""The command init: a study file to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from indexscope import IndexscopeError
from indexscope.flows.cli.declared import Command
from indexscope.foreign import reading


def init(
    file: Annotated[Path, typer.Argument(readable=False, help="Where to write it.")] = Path("study.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented study file with every setting, its meaning and its default."""
    from indexscope.flows.study.template import study_template

    try:
        told = reading(file, "give another place", "cannot be written", passing=FileExistsError)
        with told, file.open("w" if force else "x", encoding="utf-8") as handle:
            handle.write(study_template())
    except FileExistsError:
        raise IndexscopeError(file, "exists already", "give another name, or --force to overwrite it") from None
    typer.echo(f"wrote {file}; next: indexscope study {file} --dry-run")


COMMAND = Command(
    "init",
    init,
    place=10,
    examples=(
        "indexscope init",
        "indexscope init sweep.yaml --force",
    ),
)
