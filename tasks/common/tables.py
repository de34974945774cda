"""The tables of every step as they are declared; they are handed to the store, and docs/storage.md lists them."""

from __future__ import annotations

from pkgutil import resolve_name

from indexscope.columns import Table
from indexscope.tasks.common.declared import Step
from indexscope.tasks.common.registry import STEPS


def tables_of(step: Step) -> dict[str, Table]:
    """The tables of a step, by name; none where a study's own files declare them."""
    found: dict[str, Table] = {}
    for place in step.declares:
        found |= resolve_name(place)
    return found


def declared() -> dict[tuple[str, str], Table]:
    """All tables, by kind of step and name."""
    return {(step.kind, name): table for step in STEPS.values() for name, table in tables_of(step).items()}


def document() -> str:
    """The generated part of docs/storage.md: every table with its columns, types, units and weights."""
    return "\n".join(part for (kind, name), table in declared().items() for part in _section(kind, name, table))


def _section(kind: str, name: str, table: Table) -> list[str]:
    key = ", ".join(f"`{column}`" for column in table.key)
    rows = f"One row a {table.row}." if key else f"One row: a {table.row}."
    order = f" Sorted by {key}." if key and table.ordered else ""
    lines = [
        f"### `{kind}`: `{name}`\n",
        f"{rows}{order}\n",
        "| column | type | unit | weight | meaning |",
        "| --- " * 5 + "|",
    ]
    for column in table.columns:
        weight = f"`{column.weight}`" if column.weight else ""
        kind_of = column.dtype.base_type().__name__
        lines.append(f"| `{column.name}` | {kind_of} | {column.unit} | {weight} | {column.meaning} |")
    return [*lines, ""]


if __name__ == "__main__":
    print(document(), end="")
