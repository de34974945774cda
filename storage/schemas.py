"""What the columns of stored tables mean; `storage.parquet` writes it into the files themselves."""

from __future__ import annotations

from storage.choice_tables import CHOICES
from storage.columns import Table
from storage.content_tables import CONTENT
from storage.custom_tables import CUSTOM
from storage.feature_tables import FEATURES, MODELS
from storage.head_tables import HEADS
from storage.length_tables import LENGTHS
from storage.output_tables import OUTPUTS
from storage.prototype_tables import PROTOTYPES
from storage.result_tables import RESULTS
from storage.sharing_tables import SHARING
from storage.stability_tables import STABILITY

_TABLES: dict[tuple[str, str], Table] = {
    **{("features", name): table for name, table in FEATURES.items()},
    **{("models", name): table for name, table in MODELS.items()},
    **RESULTS,
    **STABILITY,
    **SHARING,
    **CONTENT,
    **CHOICES,
    **HEADS,
    **PROTOTYPES,
    **LENGTHS,
    **OUTPUTS,
    **CUSTOM,
}


def schema(kind: str, table: str) -> Table | None:
    """What is known of a table of a kind of step; None for tables that are not described."""
    return _TABLES.get((kind, table))


def described() -> dict[tuple[str, str], Table]:
    """All described tables, by kind and name."""
    return dict(_TABLES)


def document() -> str:
    """The generated part of docs/storage.md: every table with its columns, units and weights."""
    return "\n".join(part for (kind, name), table in _TABLES.items() for part in _section(kind, name, table))


def _section(kind: str, name: str, table: Table) -> list[str]:
    key = ", ".join(f"`{column}`" for column in table.key)
    rows = f"One row a {table.row}." if key else f"One row: a {table.row}."
    order = f" Sorted by {key}." if key and table.ordered else ""
    lines = [
        f"### `{kind}`: `{name}`\n",
        f"{rows}{order}\n",
        "| column | unit | weight | meaning |",
        "| --- " * 4 + "|",
    ]
    for column in table.columns:
        weight = f"`{column.weight}`" if column.weight else ""
        lines.append(f"| `{column.name}` | {column.unit} | {weight} | {column.description} |")
    return [*lines, ""]


if __name__ == "__main__":
    print(document(), end="")
