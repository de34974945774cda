"""The command import: another store's results."""

from __future__ import annotations

from typing import Annotated

import typer

from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.stores import DAMAGED, counted, existing_store


def import_store(
    source: Annotated[str, typer.Argument(help="Store to take over: folder or URL. It is only read.")],
    store: Annotated[str, typer.Argument(help="Folder or URL of the store that is to have it.")] = ".indexscope",
) -> None:
    """Merge another store into this one, with every checksum verified. Exits with 1 if the other one is damaged.

    What both have stays as it is here.
    """
    from indexscope.flows.tables import size_text
    from indexscope.storage.store.store import Store
    from indexscope.storage.upkeep.merge import merge

    merged = merge(existing_store(source), Store(store), lambda line: typer.echo(line, err=True))
    for unit in merged.damaged:
        typer.echo(f"{unit}: not as committed in {source}, so left out; the next run computes it")
    for step in merged.skipped:
        typer.echo(f"{step}: of an older Indexscope or without a manifest, so left out; the next run computes it")
    for unit in merged.differs:
        typer.echo(f"{unit}: here with other bytes, which are kept")
    typer.echo(
        f"imported {counted(len(merged.copied), 'unit')}, {size_text(merged.bytes)}; "
        f"{len(merged.present) + len(merged.differs):,} were here already"
    )
    raise typer.Exit(DAMAGED if merged.damaged else 0)


COMMAND = Command(
    "import",
    import_store,
    place=130,
    examples=("indexscope import /mnt/other/indexscope /scratch/indexscope",),
)
