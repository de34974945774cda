"""Names from studies and checkpoints as harmless text: one line, and no power over the text around them."""

from __future__ import annotations

import re
import unicodedata

from indexscope.errors import one_line

_LONGEST = 80


def plain(name: object) -> str:
    """A name for running text: one line, at most 80 characters, right-to-left script kept to itself."""
    text = one_line(name) or "(no name)"
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1].rstrip() + "…"
    if any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in text):
        return f"\u2068{text}\u2069"  # first-strong isolate … pop directional isolate
    return text


def markdown(text: object) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no table bars."""
    line = " ".join(str(text).split())
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        line = line.replace(character, entity)
    line = re.sub(r"([\\`*\[\]|~#!])", r"\\\1", line)
    # An underscore inside a word is text already; beside a word's edge it would emphasise.
    line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", line)
    # GitHub links bare addresses on its own account.
    return re.sub(r"(?i)\b(https?|ftp|mailto)(:)|\b(www)(\.)", lambda found: _broken(found), line)


def _broken(found: re.Match[str]) -> str:
    head, mark = (found[1], "&#58;") if found[1] else (found[3], "&#46;")
    return f"{head}{mark}"
