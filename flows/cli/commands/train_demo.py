"""The command train-demo: the built-in models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from indexscope.flows.cli.declared import Command


def train_demo(
    folder: Annotated[Path, typer.Argument(readable=False, help="Where to put the models.")] = Path("demo-models"),
) -> None:
    """Train the built-in models from nothing; takes an hour or two."""
    from indexscope.flows.study.preflight import check_run
    from indexscope.storage.store.writable import refuse_unwritable

    refuse_unwritable(folder, "FOLDER")
    check_run()
    from indexscope.flows.local_server import temporary_server

    with temporary_server() as server:
        server.ready()
        from indexscope.flows.train_demo import train_demo as train_flow

        train_flow(folder)


COMMAND = Command(
    "train-demo",
    train_demo,
    place=150,
    examples=("indexscope train-demo demo-models",),
)
