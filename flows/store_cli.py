"""Commands that keep a store in order: verify, gc, export, import. Heavy packages are imported inside them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from indexscope.flows.history_cli import show_history

if TYPE_CHECKING:
    from indexscope.storage.collect import Garbage, Survey
    from indexscope.storage.store import Store
    from indexscope.storage.studies import StudyRecord

#: Exit code of verify and import when something is not as it was committed.
DAMAGED = 1

StoreArgument = Annotated[str, typer.Argument(help="Folder or URL of the store.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(name="verify")(verify_store)
    app.command(name="gc")(collect_garbage)
    app.command(name="export")(export_features)
    app.command(name="import")(import_store)
    app.command(name="history")(show_history)


def verify_store(
    store: StoreArgument = ".indexscope",
    discard: Annotated[
        bool, typer.Option("--discard", help="Remove damaged units, so that the next run computes them again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read every byte of a store and compare it with what was committed. Exits with 1 if something differs."""
    from indexscope.flows.narrate import progress
    from indexscope.flows.tables import size_text
    from indexscope.storage.keys import StepKey
    from indexscope.storage.verify import Finding, verify

    opened = existing_store(store)
    findings: list[dict[str, Any]] = []

    def tell(finding: Finding) -> None:
        fields = {name: getattr(finding, name) for name in ("kind", "digest", "unit", "file", "problem")}
        findings.append(fields)
        if not as_json:
            place = finding.file or finding.unit or "manifest.json"
            typer.echo(f"{finding.kind}/{finding.digest}/{place}: {finding.problem}")

    summary = verify(opened, tell, lambda units: progress("verify", units))
    damaged = {(StepKey(found["kind"], found["digest"], {}), found["unit"]) for found in findings if found["unit"]}
    for key, unit in damaged if discard else ():
        opened.discard(key, unit)
    if as_json:
        print(json.dumps({**asdict(summary), "findings": findings}, ensure_ascii=False))
    else:
        result = "all as committed" if not findings else f"{_counted(len(findings), 'problem')}"
        typer.echo(f"{_counted(summary.units, 'unit')}, {size_text(summary.bytes)} read: {result}")
        if damaged:
            remedy = "discarded" if discard else "damaged; give --discard to remove what is damaged,"
            typer.echo(f"{_counted(len(damaged), 'unit')} {remedy} and run the study to compute it again")
        if summary.leftovers:
            left = _counted(summary.leftovers, "file")
            typer.echo(f"{left} of no unit: being written now, or left by a crash (gc deletes those)")
    raise typer.Exit(DAMAGED if findings else 0)


def collect_garbage(
    store: StoreArgument = ".indexscope",
    delete: Annotated[bool, typer.Option("--delete", help="Delete; without it, only show what would go.")] = False,
    keep_days: Annotated[
        float, typer.Option(min=0, max=36500, help="Keep what any run of the last days used, also after a change.")
    ] = 7,
    forget: Annotated[
        list[str] | None, typer.Option(metavar="STUDY", help="Count this study no longer; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show or delete what no study refers to.

    A study refers to what its newest run and its newest complete run used. What a running study uses is never deleted.
    """
    from datetime import timedelta

    from indexscope.storage.collect import collect, survey

    opened = existing_store(store)
    found = survey(opened, timedelta(days=keep_days), forget or [])
    deleted = collect(opened, found) if delete else None
    if as_json:
        parts = found.garbage if deleted is None else deleted
        content = [{"step": part.step, "label": part.label, "bytes": part.bytes, "whole": part.whole} for part in parts]
        print(json.dumps({"deleted": delete, "steps": content, "bytes": _bytes(parts)}, ensure_ascii=False))
    else:
        _print_collection(found, deleted)


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
    typer.echo(f"wrote {file}: {record.study}, {_counted(done.rows, 'row')}, {size_text(done.bytes)}")


def import_store(
    source: Annotated[str, typer.Argument(help="Store to take over: folder or URL. It is only read.")],
    store: Annotated[str, typer.Argument(help="Folder or URL of the store that is to have it.")] = ".indexscope",
) -> None:
    """Merge another store into this one, with every checksum verified. Exits with 1 if the other one is damaged.

    What both have stays as it is here.
    """
    from indexscope.flows.tables import size_text
    from indexscope.storage.merge import merge
    from indexscope.storage.store import Store

    merged = merge(existing_store(source), Store(store), lambda line: typer.echo(line, err=True))
    for unit in merged.damaged:
        typer.echo(f"{unit}: not as committed in {source}, so left out; the next run computes it")
    for step in merged.skipped:
        typer.echo(f"{step}: of an older Indexscope or without a manifest, so left out; the next run computes it")
    for unit in merged.differs:
        typer.echo(f"{unit}: here with other bytes, which are kept")
    typer.echo(
        f"imported {_counted(len(merged.copied), 'unit')}, {size_text(merged.bytes)}; "
        f"{len(merged.present) + len(merged.differs):,} were here already"
    )
    raise typer.Exit(DAMAGED if merged.damaged else 0)


def existing_store(url: str, or_empty: bool = False) -> Store:
    """A store that is there.

    Args:
        url: Its folder or URL.
        or_empty: Accept a folder that holds nothing.

    Raises:
        IndexscopeError: There is no such folder, or it holds nothing.
    """
    from indexscope import IndexscopeError
    from indexscope.storage.store import Store

    store = Store(url)
    remedy = "give the folder or URL of a store"
    if not store.folder.is_there():
        raise IndexscopeError(url, "is no folder", remedy)
    if not or_empty and not store.folder.sizes():
        raise IndexscopeError(url, "holds nothing", remedy)
    return store


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


def _print_collection(found: Survey, deleted: list[Garbage] | None) -> None:
    from indexscope.flows.tables import new_table, show, size_text

    parts = list(found.garbage) if deleted is None else deleted
    if parts:
        table = new_table("step", "label", "size", "what")
        for part in parts:
            what = "no study refers to it" if part.whole else f"{len(part.files)} files that a crash left"
            table.add_row(part.step, part.label, size_text(part.bytes), what)
        show(table)
    if found.forgotten:
        fate = "would go" if deleted is None else "gone"
        print(f"history of what is forgotten: {_counted(len(found.forgotten), 'file')} {fate}")
    for study in found.running:
        print(f"running: {study}; what it uses stays")
    if found.newer:
        print(f"{_counted(found.newer, 'step')} of a newer Indexscope stay")
    kept = f"{_counted(found.kept, 'step')} of {_counted(len(found.studies), 'study', 'studies')} stay"
    if deleted is None:
        remedy = "; give --delete to delete them" if parts else ""
        print(f"{_counted(len(parts), 'step')}, {size_text(_bytes(parts))} would go, {kept}{remedy}")
    else:
        spared = len(found.garbage) - len(deleted)
        more = f"; {spared} spared, since a study has begun to use them" if spared else ""
        print(f"{_counted(len(parts), 'step')}, {size_text(_bytes(parts))} deleted, {kept}{more}")


def _bytes(parts: Any) -> int:
    return sum(part.bytes for part in parts)


def _counted(count: int, noun: str, plural: str = "") -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
