"""Plain tables and sizes for a terminal, and for files and pipes, where a line is a line."""

from __future__ import annotations

import io
import os
import re
import sys

from rich.console import Console, RenderableType
from rich.table import Table

NUMERIC = {"units", "cached", "rows", "size", "layer", "n", "A", "B", "B − A"}
#: What stands for signs that an encoding lacks: a minus that turned into a question mark would be no number.
_PLAIN = str.maketrans(
    {"−": "-", "→": "->", "≈": "~", "↑": "^", "↓": "v", "…": "...", "–": "-", "×": "x", "±": "+-", "\u202f": " "}
)
_POWERS, _DIGITS = re.compile("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+"), str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def new_table(*columns: str) -> Table:
    """A table without lines; columns of numbers are aligned to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in NUMERIC else "left", overflow="fold")
    return table


def show(table: Table) -> None:
    """Print a table on stdout."""
    console = new_console()
    console.print(table)
    emit(written(console))


def new_console() -> Console:
    """A console that keeps what is printed, with colours only where stdout is a terminal that wants them."""
    # Into a file or a pipe a line is a line, however long. What models are called is data, not markup.
    terminal = sys.stdout.isatty()
    width = Console().width if terminal else 10_000
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, markup=False, emoji=False, highlight=False)


def written(console: Console) -> str:
    """What has been printed on a `new_console`, without the spaces that fill up lines."""
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip(' ')}\n" for line in console.file.getvalue().split("\n")[:-1])


def fits(console: Console, content: RenderableType) -> bool:
    """Whether something can be printed without folding a line of it."""
    return console.measure(content, options=console.options.update(max_width=10_000)).maximum <= console.width


def emit(text: str) -> None:
    """Write to stdout, whatever its encoding; a reader that has gone away, such as head, has seen what it wanted."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = _POWERS.sub(lambda power: f"^{power[0].translate(_DIGITS)}", text)
        text = text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
