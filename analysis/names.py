"""Names from studies and checkpoints as harmless text: one line, and no power over the text around them."""

from __future__ import annotations

import html
import re
import unicodedata

from indexscope.errors import one_line

_LONGEST = 80
_LONGEST_TOKEN = 40


def plain(name: object) -> str:
    """A name for running text: one line, at most 80 characters, right-to-left script kept to itself."""
    text = one_line(name) or "(no name)"
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1].rstrip() + "…"
    if any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in text):
        return f"\u2068{text}\u2069"  # first-strong isolate … pop directional isolate
    return text


def visible(token: str) -> str:
    r"""A token of foreign text, at most 40 characters, with whatever has no shape of its own made visible.

    Line breaks become ⏎ (the last of a token breaks the line too), tabs ⇥, other control characters their pictures,
    and what else does not print, directions of writing and half characters included, its code point.

    >>> visible(" a\n\n "), visible("\x00"), visible("\u202e")
    (' a⏎⏎\n ', '␀', '⟨U+202E⟩')
    """
    shapes = [_shape(character) for character in token[:_LONGEST_TOKEN]]
    if "⏎" in shapes:
        last = len(shapes) - shapes[::-1].index("⏎")
        shapes.insert(last, "\n")
    # A mark on its own would sit on the token before it.
    lead = "◌" if token and unicodedata.category(token[0])[0] == "M" else ""
    return lead + "".join(shapes) + ("…" if len(token) > _LONGEST_TOKEN else "")


def _shape(character: str) -> str:
    if character == "\n":
        return "⏎"
    if character == "\t":
        return "⇥"
    if ord(character) < 0x20:
        return chr(0x2400 + ord(character))
    if character.isprintable():
        return character
    if unicodedata.category(character) == "Zs":
        return " "
    return "␡" if character == "\x7f" else f"⟨U+{ord(character):04X}⟩"


def markdown(text: object) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no table bars."""
    line = _unlinked(" ".join(str(text).split()))
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        line = line.replace(character, entity)
    line = re.sub(r"([\\`*\[\]|~#!$])", r"\\\1", line)
    # An underscore inside a word is text already; beside a word's edge it would emphasise.
    line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", line)
    # GitHub links bare addresses on its own account.
    return re.sub(r"(?i)\b(https?|ftp|mailto)(:)|\b(www)(\.)", lambda found: _broken(found), line)


def html_text(text: object) -> str:
    """Text for an HTML element inside Markdown: no markup, and nothing that GitHub would link."""
    return html.escape(_unlinked(" ".join(str(text).split())))


def _unlinked(line: str) -> str:
    """Mentions, issue numbers and addresses of mail kept from linking and notifying, by a character without width."""
    return re.sub(r"(@|#|\bGH-)(?=\w)", "\\1\u2060", line, flags=re.IGNORECASE)


def _broken(found: re.Match[str]) -> str:
    head, mark = (found[1], "&#58;") if found[1] else (found[3], "&#46;")
    return f"{head}{mark}"
