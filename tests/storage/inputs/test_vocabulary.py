"""Tokens are shown as they stand inside a text, whatever the tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from indexscope.analysis.closeup.classes import CLASSES, token_classes
from indexscope.storage.inputs.checkpoints import load_tokenizer
from indexscope.storage.inputs.vocabulary import vocabulary_pieces

BUILTIN = Path(__file__).parents[3] / "storage" / "builtin" / "baseline"


@pytest.fixture(scope="module")
def builtin() -> PreTrainedTokenizerBase:
    return load_tokenizer(BUILTIN)


@pytest.mark.parametrize("text", ["def add(a, b):\n    return a + b  # 42\n", "\tfor item in items:\n\n        pass"])
def test_the_pieces_of_a_text_joined_are_the_text(builtin: PreTrainedTokenizerBase, text: str) -> None:
    pieces, _ = vocabulary_pieces(builtin)
    ids = builtin.encode(text, add_special_tokens=False)
    assert len(ids) > 5
    assert "".join(pieces[token] for token in ids) == text


def test_every_id_has_a_piece_and_special_ones_are_known(builtin: PreTrainedTokenizerBase) -> None:
    pieces, special = vocabulary_pieces(builtin)
    assert (len(pieces), special, pieces[0]) == (2048, {0}, "<|endoftext|>")
    assert all(pieces)


def test_word_starts_keep_their_space_and_cut_characters_are_marked(builtin: PreTrainedTokenizerBase) -> None:
    pieces, special = vocabulary_pieces(builtin)
    codes = token_classes(pieces, special)
    assert pieces[builtin.convert_tokens_to_ids("Ġt")] == " t"
    assert pieces[builtin.convert_tokens_to_ids("Ã")] == "\ufffd"  # the byte C3, first of two
    found = {CLASSES[code] for code in codes}
    assert found == set(CLASSES)
    assert (codes == 0).sum() == 1


def sentencepiece() -> PreTrainedTokenizerFast:
    vocabulary = {"<unk>": 0, "▁the": 1, "ing": 2, "▁": 3, "<0xE2>": 4, "a": 5, "</s>": 9}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")


def test_sentencepiece_keeps_the_leading_space_too() -> None:
    pieces, special = vocabulary_pieces(sentencepiece())
    assert pieces == ["<unk>", " the", "ing", " ", "\ufffd", "a", "", "", "", "</s>"]
    assert special == {0, 9}


def test_wordpiece_gives_spaces_to_word_starts_and_none_to_continuations() -> None:
    vocabulary = {"[UNK]": 0, "a": 1, "the": 2, "##ing": 3, ",": 4}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    assert vocabulary_pieces(wrapped) == (["[UNK]", " a", " the", "ing", " ,"], {0})
