"""Claims about the kinds of tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.closeup.classes import CLASSES, token_classes


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        (" the", "word start"),
        ("\tdef", "word start"),
        ("\n    return", "word start"),
        ("\u00a0mot", "word start"),
        ("\u3000語", "word start"),
        (" (self", "word start"),
        (" x2", "word start"),
        (" é", "word start"),
        (" na\ufffd", "word start"),
        ("The", "continuation"),
        ("ing", "continuation"),
        ("'s", "continuation"),
        ("語", "continuation"),
        ("2nd", "continuation"),
        ("\u0301", "continuation"),
        ("\ufffd", "continuation"),
        (" \ufffd", "continuation"),
        ("\ufffd\ufffd.", "continuation"),
        (" ", "whitespace"),
        ("\n\n", "whitespace"),
        ("\r\n\t", "whitespace"),
        ("\u00a0", "whitespace"),
        ("\u2028", "whitespace"),
        (",", "punctuation"),
        (" ):\n", "punctuation"),
        ("__", "punctuation"),
        ("+=", "punctuation"),
        ("🙂", "punctuation"),
        ("\x00", "punctuation"),
        ("\u200b", "punctuation"),
        ("7", "digit"),
        (" 2026", "digit"),
        ("3.14", "digit"),
        ("١٢", "digit"),
        ("½", "digit"),
        ("²", "digit"),
        ("", "special"),
    ],
)
def test_a_piece_is_of_one_kind(piece: str, expected: str) -> None:
    assert CLASSES[token_classes([piece], ())[0]] == expected


def test_listed_ids_are_special_whatever_their_text() -> None:
    codes = token_classes([" the", "<|end|>", " the"], {1, 2})
    assert [CLASSES[code] for code in codes] == ["word start", "special", "special"]
    assert codes.dtype == np.int8
    assert token_classes([], {5}).shape == (0,)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(max_size=6), max_size=20))
def test_any_text_has_a_kind_and_only_whitespace_is_whitespace(pieces: list[str]) -> None:
    codes = token_classes(pieces, ())
    assert len(codes) == len(pieces)
    for piece, code in zip(pieces, codes, strict=True):
        assert (CLASSES[code] == "whitespace") == (piece.isspace())
        assert (CLASSES[code] == "special") == (piece == "")
        if CLASSES[code] == "word start":
            assert piece[0].isspace()
        if CLASSES[code] == "digit":
            assert not any(character.isalpha() for character in piece)
