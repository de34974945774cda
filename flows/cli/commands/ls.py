"""The command ls: what a store holds. No study is planned, so nothing heavy is imported."""

from __future__ import annotations

from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.stores import Json, StoreArgument, existing_store


def list_store(store: StoreArgument = ".indexscope", as_json: Json = False) -> None:
    """List what a store holds, one line a step."""
    from indexscope.flows.tables import new_table, show

    steps = existing_store(store, or_empty=True).list_steps()
    if as_json:
        print(steps.write_json())
        return
    if steps.is_empty():
        print(f"{store} holds nothing")
        return
    table = new_table("kind", "digest", "label", "units", "rows", "size", "created", "state")
    for row in steps.sort("kind", "created").iter_rows(named=True):
        units = str(row["units"]) if row["expected"] is None else f"{row['units']}/{row['expected']}"
        created = "" if row["created"] is None else f"{row['created'].astimezone():%Y-%m-%d %H:%M}"
        size, rows = _size(row["bytes"]), "" if row["rows"] is None else f"{row['rows']:,}"
        table.add_row(row["kind"], row["digest"], row["label"] or "", units, rows, size, created, row["state"])
    show(table)
    print(f"{steps.height} steps, {_size(int(steps['bytes'].sum()))}")


def _size(count: int | None) -> str:
    from indexscope.flows.tables import size_text

    return "" if count is None else size_text(count)


COMMAND = Command(
    "ls",
    list_store,
    place=90,
    examples=(
        "indexscope ls",
        "indexscope ls s3://bucket/indexscope --json",
    ),
)
