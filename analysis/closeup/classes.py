"""What kind of token each entry of a vocabulary is, from its text alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

CLASSES = ("special", "whitespace", "punctuation", "digit", "word start", "continuation")
"""Every token is in exactly one; its code is its place here."""

RELATIONS = ("induction", "repeated", "first occurrence")
"""What a key is to the query or to its text; these overlap with the classes and with each other."""

SPECIAL, WHITESPACE, PUNCTUATION, DIGIT, WORD_START, CONTINUATION = range(len(CLASSES))
_CUT = "\ufffd"


def token_classes(pieces: Sequence[str], special: Collection[int]) -> NDArray[np.int8]:
    r"""Class of every entry of a vocabulary.

    The first of these that holds: *special* if its id is listed or it has no text; *whitespace* if it is nothing else;
    *continuation* if it begins, behind its leading whitespace, in the middle of a character (U+FFFD: a part of its
    bytes); *punctuation* if it has no letter, mark or number (symbols, emoji and control characters are here too);
    *digit* if it has numbers and neither letters nor marks; *word start* if whitespace leads; else *continuation*.

    A word that nothing precedes, as after a line break or a bracket, has no leading whitespace in most vocabularies
    and counts as continuation; so do all words of scripts that do not part them.

    Args:
        pieces: Text of each id as it stands inside a text, with its leading space.
        special: Ids of control tokens.

    Returns:
        Codes, places in `CLASSES`, [vocabulary].

    >>> [CLASSES[code] for code in token_classes(["<s>", "\n\n", " (", " 42", " the", "ing", "\ufffd"], {0})]
    ['special', 'whitespace', 'punctuation', 'digit', 'word start', 'continuation', 'continuation']
    """
    listed = frozenset(special)
    codes = [SPECIAL if place in listed else _of(piece) for place, piece in enumerate(pieces)]
    return np.array(codes, dtype=np.int8)


def class_codes(classes: NDArray[np.int8], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class codes of tokens; ids beyond the vocabulary of `token_classes` are special: they have no text."""
    known = np.append(classes, np.int8(SPECIAL)).astype(np.int64)
    return np.asarray(known[np.minimum(ids, len(classes))])


def _of(piece: str) -> int:
    if not piece:
        return SPECIAL
    body = piece.lstrip()
    if not body:
        return WHITESPACE
    if body.startswith(_CUT):
        return CONTINUATION
    kinds = {unicodedata.category(character)[0] for character in body}
    if not kinds & {"L", "M", "N"}:
        return PUNCTUATION
    if "N" in kinds and not kinds & {"L", "M"}:
        return DIGIT
    return WORD_START if len(body) < len(piece) else CONTINUATION
