"""Plain tables and sizes for a terminal."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

NUMERIC = {"units", "cached", "rows", "size", "a", "b", "difference", "ci_low", "ci_high", "layer", "n"}


def new_table(*columns: str) -> Table:
    """A table without lines; columns of numbers are aligned to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in NUMERIC else "left", overflow="fold")
    return table


def show(table: Table) -> None:
    """Print a table on stdout."""
    # Into a file or a pipe a line is a line, however long. What models are called is data, not markup.
    width = None if sys.stdout.isatty() else 500
    Console(width=width, markup=False, emoji=False, highlight=False).print(table)


def size_text(count: int) -> str:
    """Bytes for people.

    >>> size_text(999), size_text(1_234_567)
    ('999 B', '1.2 MB')
    """
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
