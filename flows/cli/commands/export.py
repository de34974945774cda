"""The command export: a study's features as one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.stores import counted, existing_store

if TYPE_CHECKING:
    from indexscope.storage.store import Store
    from indexscope.storage.studies import StudyRecord


def export_features(
    source: Annotated[str, typer.Argument(metavar="STUDY", help="Study file, or folder or URL of a store.")],
    file: Annotated[Path, typer.Argument(readable=False, help="What to write: a .parquet or .csv file.")],
    study: Annotated[str | None, typer.Option(help="Which study, where a store holds several.")] = None,
    table: Annotated[
        list[str] | None, typer.Option(help="Only this table: attention, indexer, …; may be repeated.")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric; may be repeated.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Accept a study that has not finished.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a study's features, its own among them, as one tidy file: one row a value, with its weight and unit."""
    from indexscope.flows.exporting import chosen
    from indexscope.flows.tables import size_text
    from indexscope.storage.export import export
    from indexscope.storage.own_features import own_features

    opened, record = _study(source, study)
    paths, own = own_features(opened, record)
    measures = chosen(table or (), metric or (), own)
    done = export(opened, record.models, file, measures, own=paths, partial=partial, overwrite=force)
    for model, (found, expected) in done.models.items():
        if found < expected:
            typer.echo(f"note: {model}: {found} of {expected} shards", err=True)
    typer.echo(f"wrote {file}: {record.study}, {counted(done.rows, 'row')}, {size_text(done.bytes)}")


def _study(source: str, name: str | None) -> tuple[Store, StudyRecord]:
    """The store and the newest run of a study file, or of a study in a store."""
    from indexscope.storage.export import choose_study
    from indexscope.storage.store import Store

    if Path(source).suffix not in (".yaml", ".yml"):
        store = existing_store(source)
        return store, choose_study(store, name)
    from indexscope.flows.config import identity_of
    from indexscope.flows.load import load_study

    study = load_study(source, gates=False)
    store = Store(study.store)
    return store, choose_study(store, name or identity_of(study))


COMMAND = Command("export", export_features, place=120)
