"""Cutting documents into sequences: joined and cut to length, or one each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from indexscope.storage.inputs.evidence import Evidence


class TokenDocument(NamedTuple):
    """The token ids of a document, whether it may be joined with others, and what it marks, in tokens."""

    name: str
    input_ids: tuple[int, ...]
    joins: bool
    evidence: Evidence | None = None


class Piece(NamedTuple):
    """A sequence cut from documents, named for where it begins.

    Attributes:
        name: The name.
        input_ids: Its token ids.
        evidence: What it marks, in tokens.
        cut_off: Whether its document marks an answer that does not end within it.
    """

    name: str
    input_ids: tuple[int, ...]
    evidence: Evidence | None = None
    cut_off: bool = False


class Packer:
    """Joins documents, a separator after each, and cuts the stream into pieces of one length.

    No token is lost or doubled: the pieces, one after the other, are the stream.

    Args:
        length: Tokens of a piece.
        separator: End-of-text token; None joins without one. A document that ends with it gets no second one.
    """

    def __init__(self, length: int, separator: int | None) -> None:
        self._length = length
        self._separator = separator
        self._tokens: list[int] = []
        self._name = ""

    def add(self, document: TokenDocument) -> Iterator[Piece]:
        """Add a document; return the pieces that it completes."""
        ids = document.input_ids
        if not ids:
            return
        if self._separator is not None and ids[-1] != self._separator:
            ids = (*ids, self._separator)
        taken = 0
        while taken < len(ids):
            if not self._tokens:
                self._name = f"{document.name}@{taken}" if taken else document.name
            part = ids[taken : taken + self._length - len(self._tokens)]
            self._tokens.extend(part)
            taken += len(part)
            if len(self._tokens) == self._length:
                yield self._cut()

    def rest(self) -> Iterator[Piece]:
        """Return what is left, shorter than a whole piece."""
        if self._tokens:
            yield self._cut()

    def _cut(self) -> Piece:
        piece = Piece(self._name, tuple(self._tokens))
        self._tokens = []
        return piece


def truncated(document: TokenDocument, length: int) -> Iterator[Piece]:
    """Cut a document off at a length; an empty one gives nothing.

    Evidence precedes its answer, so that what is left of a document marks all or nothing.
    """
    if document.input_ids:
        marks = document.evidence
        cut_off = marks is not None and marks.answer[1] > length
        yield Piece(document.name, document.input_ids[:length], None if cut_off else marks, cut_off)
