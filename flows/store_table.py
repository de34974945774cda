"""What a store holds, as a table for people at a terminal. No study is planned, so nothing heavy is imported."""

from __future__ import annotations

from indexscope.flows.store_cli import existing_store
from indexscope.flows.tables import new_table, show, size_text


def print_store(url: str, as_json: bool) -> None:
    """Print the steps of a store."""
    steps = existing_store(url, or_empty=True).list_steps()
    if as_json:
        print(steps.write_json())
        return
    if steps.is_empty():
        print(f"{url} holds nothing")
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
    return "" if count is None else size_text(count)
