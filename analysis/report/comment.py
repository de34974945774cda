"""A Markdown text that fits a pull request's comment: blocks are taken in while there is room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from indexscope.analysis.names import html_text, markdown
from indexscope.analysis.report import markdown_table
from indexscope.analysis.report.numbers import DASH

#: GitHub takes 65,536 characters in a comment; some are left for what a workflow puts around the report.
LONGEST = 64_000

#: The file for readers that show no HTML: kept with a report and shown in Prefect, but not published.
OPENED = "opened.md"


def size(text: str) -> int:
    """Characters as GitHub counts them at most: UTF-16 code units."""
    return len(text.encode("utf-16-le")) // 2


class Comment:
    """Blocks of Markdown, the most important first, with a note of what found no room.

    Args:
        longest: Characters that there is room for.
        opened: For readers that show no HTML: what would be folded stands open below its title.
    """

    def __init__(self, longest: int = LONGEST, opened: bool = False) -> None:
        self._opened = opened
        self._blocks: list[str] = []
        self._left_out: list[str] = []
        # The note of what was left out must fit in any case.
        self._room = longest - 2_000

    def add(self, *blocks: str) -> None:
        """Take blocks in one after the other; what no longer fits is left out without a note."""
        for block in blocks:
            if block and size(block) + 2 <= self._room:
                self._blocks.append(block)
                self._room -= size(block) + 2

    def fold(self, title: str, blocks: Iterable[str]) -> None:
        """Take blocks in below a title that opens them, all or none.

        Args:
            title: Plain text.
            blocks: Markdown.
        """
        inside = "\n\n".join(block for block in blocks if block)
        text = f"<details>\n<summary>{html_text(title)}</summary>\n\n{inside}\n\n</details>"
        if self._opened:
            text = f"## {markdown(title)}\n\n{inside}"
        if not inside:
            return
        if size(text) + 2 > self._room:
            self._left_out.append(title)
            return
        self.add(text)

    def text(self) -> str:
        """All that was taken in."""
        note = []
        if self._left_out:
            shown = [f"- {markdown(title)}" for title in self._left_out[:10]]
            shown += [f"- and {len(self._left_out) - 10} more"] * (len(self._left_out) > 10)
            note = ["Left out here, to fit a comment; all of it is in report.html:", "\n".join(shown)]
        return "\n\n".join([*self._blocks, *note]) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], sides: str, room: int = LONGEST) -> str:
    """A table of cells that are Markdown already, without the columns that say nothing of any row.

    Args:
        heads: Headings.
        rows: Cells.
        sides: "l" or "r" for each column.
        room: Characters that the rows may take; further ones are counted and not shown.
    """
    rows = [tuple(row) for row in rows]
    told = [place for place in range(len(heads)) if not place or any(row[place] not in ("", DASH) for row in rows)]
    heads, sides = [heads[place] for place in told], "".join(sides[place] for place in told)
    kept, hidden = [], 0
    for row in ([row[place] for place in told] for row in rows):
        room -= size("| " + " | ".join(row) + " |") + 1
        if room >= 0:
            kept.append(row)
        else:
            hidden += 1
    note = f"\n\n{hidden} more rows are in report.html." if hidden else ""
    return markdown_table.table(heads, kept, sides) + note
