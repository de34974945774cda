"""The text of every token of a vocabulary, as it stands inside a text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from indexscope.foreign import reading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Each token is decoded behind this word, for decoders treat the first token of a text in their own way (that of
# SentencePiece drops its leading space).
_ANCHOR = "a"


def vocabulary_pieces(tokenizer: PreTrainedTokenizerBase) -> tuple[list[str], set[int]]:
    """Text of each token id, and the ids of special tokens.

    Args:
        tokenizer: A tokenizer; its own decoder is asked, so byte-level BPE, SentencePiece and WordPiece all give plain
            text: a leading space where the token starts a word, U+FFFD for a part of a character's bytes.

    Returns:
        Texts by id, "" for ids that the vocabulary leaves out, the name for special tokens; special ids.
    """
    names = {place: name for name, place in tokenizer.get_vocab().items()}
    special = set(tokenizer.all_special_ids)
    special |= {place for place, token in tokenizer.added_tokens_decoder.items() if token.special}
    pieces = [names.get(place, "") for place in range(max(names, default=-1) + 1)]
    ordinary = [place for place in sorted(names) if place not in special]
    anchor: list[int] = tokenizer.encode(_ANCHOR, add_special_tokens=False)
    before = _decode(tokenizer, [anchor])[0]
    for place, text in zip(ordinary, _decode(tokenizer, [[*anchor, place] for place in ordinary]), strict=True):
        pieces[place] = text.removeprefix(before)
    return pieces, special


def vocabulary_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of what the token ids mean to a reader, 64 hexadecimal digits; how the tokenizer is stored is no part."""
    where = tokenizer.name_or_path or "the tokenizer"
    with reading(where, "save the tokenizer again with save_pretrained", "has a tokenizer that cannot be used"):
        pieces, special = vocabulary_pieces(tokenizer)
    return hashlib.sha256(json.dumps([pieces, sorted(special)]).encode()).hexdigest()


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[list[int]]) -> list[str]:
    decoded: list[str] = tokenizer.batch_decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return decoded
