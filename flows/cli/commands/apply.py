"""The command apply: an edit as a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from indexscope.flows.cli.declared import Command


def apply(
    study: Annotated[Path, typer.Argument(metavar="STUDY", readable=False, help="Study file with an edit in it.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder to write; it must not exist.")],
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The edit, as the study calls it; by default the only one.")
    ] = None,
) -> None:
    """Write an edited model as a checkpoint that transformers loads by itself.

    What config.json of the model's family cannot say (k by layer, a precision, another selector) is refused by name:
    such edits run in studies only. The last line on stdout is the folder.
    """
    from indexscope.flows.applied import wanted, write_edited
    from indexscope.flows.study.load import load_study
    from indexscope.storage.inputs.model_saving import refuse_taken
    from indexscope.storage.store.writable import refuse_unwritable

    made = wanted(load_study(study, gates=False), str(study), model)
    refuse_taken(out)
    refuse_unwritable(out, "--out")
    write_edited(made, out)
    typer.echo(out)


COMMAND = Command(
    "apply",
    apply,
    place=75,
    examples=('indexscope apply optimised.yaml --model "fewer heads" --out models/fewer-heads',),
)
