"""A finished report told on stdout: coloured on a terminal that wants it, in words where signs are lacking."""

from __future__ import annotations

import re
import sys

from rich.text import Text

from indexscope.flows.tables import emit, new_console, written

#: The sign of a reading stands between two columns' space and its word.
_SIGN = re.compile(r"(?<=  )[↑↓=≈?] (?=\w)")


def show_told(told: str) -> None:
    """Print the lines on stdout."""
    if not (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf"):
        told = _SIGN.sub("", told)
    text = Text(told.rstrip("\n"))
    text.highlight_regex(r"(?<=  )[↑↓] better.*", "green")
    text.highlight_regex(r"(?<=  )[↑↓] worse.*", "red")
    text.highlight_regex(r"(?<=; )not passed.*", "red")
    console = new_console()
    console.print(text, soft_wrap=True)
    emit(written(console))
