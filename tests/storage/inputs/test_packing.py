"""Packing neither loses nor doubles a token."""

from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from indexscope.storage.inputs.packing import Packer, Piece, TokenDocument, truncated

DOCUMENTS = st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=8)


def pack(documents: list[list[int]], length: int, separator: int | None) -> list[Piece]:
    packer = Packer(length, separator)
    pieces = [
        piece
        for number, ids in enumerate(documents)
        for piece in packer.add(TokenDocument(f"d{number}", tuple(ids), True))
    ]
    return [*pieces, *packer.rest()]


@given(DOCUMENTS, st.integers(1, 7))
def test_the_pieces_in_order_are_the_documents_in_order(documents: list[list[int]], length: int) -> None:
    pieces = pack(documents, length, None)
    assert list(chain(*(piece.input_ids for piece in pieces))) == list(chain(*documents))
    assert all(len(piece.input_ids) == length for piece in pieces[:-1])
    assert all(0 < len(piece.input_ids) <= length for piece in pieces[-1:])


@given(DOCUMENTS, st.integers(1, 7))
def test_one_separator_follows_each_document(documents: list[list[int]], length: int) -> None:
    pieces = pack(documents, length, 0)
    expected = [[*ids, 0] if ids[-1] != 0 else ids for ids in documents if ids]
    assert list(chain(*(piece.input_ids for piece in pieces))) == list(chain(*expected))


@given(DOCUMENTS, st.integers(1, 7))
def test_a_piece_is_named_for_where_it_begins(documents: list[list[int]], length: int) -> None:
    for piece in pack(documents, length, None):
        name, _, start = piece.name.partition("@")
        ids = documents[int(name[1:])][int(start or 0) :]
        assert ids
        assert piece.input_ids[: len(ids)] == tuple(ids)[: len(piece.input_ids)]


def test_names_and_separators_of_a_known_case() -> None:
    assert pack([[1, 2, 3], [4], [5, 6]], 3, 9) == [
        Piece("d0", (1, 2, 3)),
        Piece("d0@3", (9, 4, 9)),
        Piece("d2", (5, 6, 9)),
    ]


def test_truncating_keeps_the_beginning() -> None:
    assert list(truncated(TokenDocument("d", (1, 2, 3), False), 2)) == [Piece("d", (1, 2))]
    assert list(truncated(TokenDocument("d", (), False), 2)) == []
