"""The command train-demo: the built-in models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from indexscope.flows.cli.declared import Command


def train_demo(
    folder: Annotated[Path, typer.Argument(readable=False, help="Where to put the models.")] = Path("demo-models"),
    begin: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Take tokenizer and body of a model made earlier, as builtin:baseline, and do the later stages.",
        ),
    ] = None,
) -> None:
    """Train the built-in models from nothing, which takes an hour or two, or the later stages of them alone."""
    from indexscope.flows.study.preflight import check_run
    from indexscope.storage.store.writable import refuse_unwritable

    refuse_unwritable(folder, "FOLDER")
    check_run()
    if begin is not None:
        from indexscope.analysis.demo.recipe import DemoRecipe, demo_config
        from indexscope.storage.inputs.checkpoints import resolve
        from indexscope.storage.inputs.demo_models import check_body

        recipe = DemoRecipe()
        check_body(resolve(begin), demo_config(recipe, recipe.variants[0]).to_dict())
    from indexscope.flows.local_server import temporary_server

    with temporary_server() as server:
        server.ready()
        from indexscope.flows.train_demo import train_demo as train_flow

        train_flow(folder, begin=begin or "")


COMMAND = Command(
    "train-demo",
    train_demo,
    place=150,
    examples=("indexscope train-demo demo-models", "indexscope train-demo demo-models --begin builtin:baseline"),
)
