"""A table in GitHub-flavoured Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], sides: str) -> str:
    """Rows of finished cells as a table.

    Args:
        heads: Titles of the columns.
        rows: Cells that `names.markdown` has made harmless.
        sides: "l" or "r" for each column: to which side it is aligned.
    """
    lines = ["| " + " | ".join(heads) + " |"]
    lines.append("|" + "|".join(" ---: " if side == "r" else " :--- " for side in sides) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
