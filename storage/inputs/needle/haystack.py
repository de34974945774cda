"""The text around needles, in tokens, line by line."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs.data_files import data_files
from indexscope.storage.inputs.documents import documents
from indexscope.storage.inputs.needle.pieces import Ids, Pieces
from indexscope.storage.inputs.stdlib import stdlib_documents

STDLIB = "builtin:python-stdlib"


@dataclass
class Haystack:
    """Documents whose lines fill texts; each is cut into tokens when it is first needed.

    Attributes:
        texts: The documents.
        pieces: Cuts their lines into tokens.
    """

    texts: list[str]
    pieces: Pieces
    _lines: dict[int, list[Ids]] = field(default_factory=dict)

    def tokens(self, count: int, draw: random.Random) -> tuple[Ids, list[int]]:
        """So many tokens from a line that is drawn on, document after document, and where lines begin in them."""
        found: list[int] = []
        starts: list[int] = []
        for line in self._from(draw):
            if len(found) >= count:
                break
            starts.append(len(found))
            found.extend(line)
        return tuple(found[:count]), starts

    def _from(self, draw: random.Random) -> Iterator[Ids]:
        document = draw.randrange(len(self.texts))
        first = draw.randrange(len(self._of(document)))
        while True:  # a short haystack comes again from its start
            yield from self._of(document)[first:]
            document, first = (document + 1) % len(self.texts), 0

    def _of(self, document: int) -> list[Ids]:
        if document not in self._lines:
            lines = [line for line in self.texts[document].splitlines() if line.strip()]
            self._lines[document] = self.pieces.of([f"\n{line}" for line in lines])
        return self._lines[document]


def haystack(source: str, pieces: Pieces, trained_on: bool) -> Haystack:
    """Read what needles are hidden in.

    Args:
        source: builtin:python-stdlib, or a file or folder of text.
        pieces: Cuts it into tokens.
        trained_on: Of the standard library what the built-in models are trained on, else what is held out from that.

    Raises:
        IndexscopeError: There is no such source, or no text in it.
    """
    if source == STDLIB:
        texts = [text for _, text in stdlib_documents("train" if trained_on else "held_out")]
    else:
        found = (document.content for document in documents(data_files(source, "train"), "text"))
        texts = [content for content in found if isinstance(content, str)]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise IndexscopeError(source, "has no text to hide needles in", f"give a file of text, or {STDLIB}")
    return Haystack(texts, pieces)
