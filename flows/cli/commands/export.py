"""The command export: a study's features as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.stores import counted, store_and_study


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
    from indexscope.flows.finished.exporting import chosen, leaks_of
    from indexscope.flows.tables import size_text
    from indexscope.storage.studies.choice import choose_run
    from indexscope.storage.studies.export import export, plugin_features

    store, name = store_and_study(source, study)
    record = choose_run(store, name)
    paths, own = plugin_features(store, record)
    measures = chosen(table or (), metric or (), own)
    leaks = leaks_of(store, record)
    done = export(store, record.models, file, measures, own=paths, leaks=leaks, partial=partial, overwrite=force)
    for model in (model for model, found in leaks.items() if found):
        typer.echo(f"warning: {model} leaks: it failed the causality audit; none of its numbers can be used", err=True)
    for model, (found, expected) in done.models.items():
        if found < expected:
            typer.echo(f"note: {model}: {found} of {expected} shards", err=True)
    typer.echo(f"wrote {file}: {record.study}, {counted(done.rows, 'row')}, {size_text(done.bytes)}")


COMMAND = Command(
    "export",
    export_features,
    place=120,
    examples=(
        "indexscope export study.yaml features.parquet",
        "indexscope export study.yaml recall.csv --table indexer --metric selection_recall",
    ),
)
