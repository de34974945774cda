"""The command gc: what no study refers to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.stores import Json, StoreArgument, counted, existing_store

if TYPE_CHECKING:
    from indexscope.storage.upkeep.collect import Garbage, Survey


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

    from indexscope.storage.upkeep.collect import collect, survey

    opened = existing_store(store)
    found = survey(opened, timedelta(days=keep_days), forget or [])
    deleted = collect(opened, found) if delete else None
    if as_json:
        parts = found.garbage if deleted is None else deleted
        content = [{"step": part.step, "label": part.label, "bytes": part.bytes, "whole": part.whole} for part in parts]
        print(json.dumps({"deleted": delete, "steps": content, "bytes": _bytes(parts)}, ensure_ascii=False))
    else:
        _print_collection(found, deleted)


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
        print(f"history of what is forgotten: {counted(len(found.forgotten), 'file')} {fate}")
    for study in found.running:
        print(f"running: {study}; what it uses stays")
    if found.newer:
        print(f"{counted(found.newer, 'step')} of a newer Indexscope stay")
    kept = f"{counted(found.kept, 'step')} of {counted(len(found.studies), 'study', 'studies')} stay"
    if deleted is None:
        remedy = "; give --delete to delete them" if parts else ""
        print(f"{counted(len(parts), 'step')}, {size_text(_bytes(parts))} would go, {kept}{remedy}")
    else:
        spared = len(found.garbage) - len(deleted)
        more = f"; {spared} spared, since a study has begun to use them" if spared else ""
        print(f"{counted(len(parts), 'step')}, {size_text(_bytes(parts))} deleted, {kept}{more}")


def _bytes(parts: Any) -> int:
    return sum(part.bytes for part in parts)


COMMAND = Command(
    "gc",
    collect_garbage,
    place=110,
    examples=(
        "indexscope gc /scratch/indexscope",
        "indexscope gc /scratch/indexscope --keep-days 30 --delete",
    ),
)
