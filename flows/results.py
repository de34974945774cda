"""Tables for people at a terminal: the plan of a study, and what a store holds."""

from __future__ import annotations

from flows.plan import Plan
from flows.status import status
from flows.tables import new_table, show, size_text
from storage.store import Store


def print_plan(plan: Plan) -> None:
    """Print what a study would do and why."""
    lines = status(plan)
    table = new_table("step", "units", "cached", "rows", "why it would run")
    for line in lines:
        rows = "" if line.rows is None else f"{line.rows:,}"
        table.add_row(line.step, str(line.units), str(line.cached), rows, line.why or "it would not: cached")
    show(table)
    samples = plan.samples
    missing = sum(line.units - line.cached for line in lines)
    tokens = sum(len(sample.input_ids) for sample in samples)
    shape = f"{len(samples)} samples, {tokens:,} tokens in {len(plan.shards)} shards"
    print(f"{shape}; {len(plan.models)} models on {plan.device}")
    print("rows: per sample, layer, head and position bucket, in the attention table")
    print("nothing to do: the store has everything" if not missing else f"{missing} units to compute")


def print_store(url: str, as_json: bool) -> None:
    """Print the steps of a store."""
    steps = Store(url).list_steps()
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
