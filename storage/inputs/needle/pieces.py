"""Stretches of text in tokens, as they stand inside of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from indexscope.errors import IndexscopeError
from indexscope.foreign import reading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = tuple[int, ...]
# Each stretch is cut into tokens behind this word, since tokenizers treat the beginning of a text in their own way.
_ANCHOR = "a"
_REMEDY = "use the tokenizer that belongs to the model"


class Pieces:
    """Cuts stretches of a text into tokens one by one, so that it is known which tokens each of them is.

    Args:
        tokenizer: Any tokenizer.

    Attributes:
        first: Special tokens that a text begins with.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        (self._anchor,) = self._plain([_ANCHOR])
        with reading(self._where, _REMEDY, "cannot be cut into tokens"):
            whole = tuple(tokenizer([_ANCHOR], verbose=False)["input_ids"][0])
        size = len(self._anchor)
        places = [place for place in range(len(whole) - size + 1) if whole[place : place + size] == self._anchor]
        self.first: Ids = whole[: places[0]] if places else ()

    def of(self, texts: Sequence[str]) -> list[Ids]:
        """The tokens of each stretch, none of them empty.

        Raises:
            IndexscopeError: The tokenizer has no tokens for one.
        """
        found = []
        for text, ids in zip(texts, self._plain([_ANCHOR + text for text in texts]), strict=True):
            begins = ids[: len(self._anchor)] == self._anchor
            found.append(ids[len(self._anchor) :] if begins else self._plain([text])[0])
            if not found[-1]:
                raise IndexscopeError(self._where, f"has no tokens for {text!r}", "use a tokenizer of English text")
        return found

    @property
    def _where(self) -> str:
        return self._tokenizer.name_or_path or "the tokenizer"

    def _plain(self, texts: Sequence[str]) -> list[Ids]:
        with reading(self._where, _REMEDY, "cannot be cut into tokens"):
            return [
                tuple(ids) for ids in self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
            ]
