"""What data mark in characters or tokens are exactly the tokens that hold it, and what cannot be marked is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs.datasets import DatasetSettings, load_samples
from indexscope.storage.inputs.evidence import Evidence, evidence_fingerprint, in_tokens
from indexscope.storage.inputs.samples import Sample, as_rows

TEXTS = [
    "The naïve café in 東京 sells 12345 crêpes 🥞 a day.",
    "A harbour, a café: 東京 and the naïve 🥞🥞.",
    "x = 1\n\ty = x",
]


def byte_level() -> PreTrainedTokenizerFast:
    """Few merges, so that characters beyond ASCII are several tokens each."""
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    plain.train_from_iterator(TEXTS[:2], trainers.BpeTrainer(vocab_size=275, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=plain)


def sentence_piece() -> PreTrainedTokenizerFast:
    """Unigrams behind a normalisation that changes how long the text is."""
    plain = Tokenizer(models.Unigram())
    plain.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("...", "")])
    plain.pre_tokenizer = pre_tokenizers.Metaspace()
    plain.decoder = decoders.Metaspace()
    plain.train_from_iterator(
        TEXTS, trainers.UnigramTrainer(vocab_size=90, unk_token="<unk>", special_tokens=["<unk>"])
    )
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>")


BYTES, PIECES = byte_level(), sentence_piece()


def written(folder: Path, *rows: dict[str, Any]) -> str:
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "data.jsonl")


def loaded(source: str, tokenizer: Any, **settings: Any) -> list[Sample]:
    chosen = DatasetSettings(source=source, samples=None, **settings)
    return sorted(load_samples(chosen, tokenizer, 1000), key=lambda sample: sample.name)


def by_bytes(text: str, tokens: list[str], start: int, end: int) -> list[int]:
    """The tokens that hold a byte of the characters, counted byte by byte."""
    owner = [place for place, character in enumerate(text) for _ in character.encode()]
    found, at = [], 0
    for number, token in enumerate(tokens):  # each character of a token's name is one byte
        if any(start <= owner[byte] < end for byte in range(at, at + len(token))):
            found.append(number)
        at += len(token)
    assert at == len(owner)
    return found


@given(st.sampled_from(TEXTS), st.data())
def test_a_span_is_the_tokens_that_hold_a_byte_of_its_characters(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 3))
    end = data.draw(st.integers(start + 1, len(text) - 2))
    encoded = BYTES(text, return_offsets_mapping=True)
    tokens = BYTES.convert_ids_to_tokens(encoded["input_ids"])
    marks = Evidence(((start, end),), (end + 1, len(text)))
    wanted, answer = by_bytes(text, tokens, start, end), by_bytes(text, tokens, end + 1, len(text))
    if wanted[0] >= answer[0] or not answer[0]:
        with pytest.raises(IndexscopeError):
            in_tokens(marks, encoded["offset_mapping"], "here")
        return
    found = in_tokens(marks, encoded["offset_mapping"], "here")
    assert list(range(*found.spans[0])) == [token for token in wanted if token < answer[0]]
    assert list(range(*found.answer)) == answer


@pytest.mark.parametrize("tokenizer", [BYTES, PIECES], ids=["bytes", "pieces"])
@pytest.mark.parametrize("word", ["café", "東京", "12345", "🥞", "naïve"])
def test_the_tokens_of_a_word_are_read_as_that_word(tmp_path: Path, tokenizer: Any, word: str) -> None:
    text = TEXTS[0]
    start = text.index(word)
    answer = [text.index("day"), len(text)]
    source = written(tmp_path, {"text": text, "evidence": [[start, start + len(word)]], "answer": answer})
    (sample,) = loaded(source, tokenizer)
    assert sample.evidence is not None
    ((first, last),) = sample.evidence.spans
    if tokenizer.unk_token_id not in sample.input_ids[first:last] or tokenizer is BYTES:
        read = tokenizer.decode(sample.input_ids[first:last])
        assert word in read and len(read.strip()) < 2 * len(word) + 2
    assert "day" in tokenizer.decode(sample.input_ids[slice(*sample.evidence.answer)])


def test_a_span_that_splits_tokens_takes_them_whole(tmp_path: Path, tokenizer: Any) -> None:
    text = "w10 w11 w12 w13 w14"
    (sample,) = loaded(written(tmp_path, {"text": text, "evidence": [[1, 2], [6, 9]], "answer": [13, 19]}), tokenizer)
    assert sample.evidence == Evidence(((0, 3),), (3, 5)), "w10; w11 and w12, which touch it; then w13 and w14"


def test_parquet_marks_as_jsonl_does_and_other_columns_are_left_alone(tmp_path: Path) -> None:
    rows = {"input_ids": [[1, 2, 3, 4, 5]] * 2, "evidence_tokens": [[[0, 2]], None], "answer": [[3, 5], None]}
    pl.DataFrame({**rows, "kind": ["single", "none"], "evidence": ["prose", "prose"]}).write_parquet(
        tmp_path / "a.parquet"
    )
    marked, plain = loaded(str(tmp_path / "a.parquet"), None)
    assert marked.evidence == Evidence(((0, 2),), (3, 5), "single") and plain.evidence is None


def test_what_only_has_the_same_names_marks_nothing(tmp_path: Path, tokenizer: Any) -> None:
    rows = [
        {"text": "w1 w2", "answer": "Paris", "evidence": "on page 3"},
        {"text": "w1 w2", "answer": [0, 1]},
        {"text": "w1 w2", "evidence": [[[1, "title"]]], "answer": "yes"},
    ]
    found = loaded(written(tmp_path, *rows), tokenizer, packing=False)
    assert [sample.evidence for sample in found] == [None] * 3


def test_an_answer_may_need_no_evidence(tmp_path: Path) -> None:
    (sample,) = loaded(written(tmp_path, {"input_ids": [1, 2, 3], "evidence_tokens": [], "answer": [1, 3]}), None)
    assert sample.evidence == Evidence((), (1, 3))


BAD = [
    ({"text": "abcdef", "evidence": [[0, 2]], "answer": "cd"}, r"data\.jsonl:1: has evidence, and no \[start, end\]"),
    ({"text": "abcdef", "evidence": [[0, 2], [3, 9]], "answer": [4, 5]}, r"evidence 2 \[3, 9\] is not within its 6 "),
    ({"text": "abcdef", "evidence": [[0, 2]], "answer": [5, 5]}, r"answer \[5, 5\] is not within"),
    ({"text": "abcdef", "evidence": [[0, 2], [3, 5]], "answer": [4, 6]}, r"evidence 2 \[3, 5\] is not before the ans"),
    ({"text": "abcdef", "evidence": "x", "answer": [4, 6]}, "has evidence that is no list"),
    ({"text": "abcdef", "evidence_tokens": [[0, 2]], "answer": [4, 6]}, "marks evidence_tokens, but its content"),
    ({"input_ids": [1, 2, 3], "evidence": [[0, 1]], "answer": [1, 3]}, "marks evidence, but its content is count"),
    ({"input_ids": [1, 2, 3], "evidence_tokens": [], "answer": [0, 3]}, "begins with the first token"),
    ({"text": "a... b c", "evidence": [[1, 4]], "answer": [5, 6]}, r"evidence 1 \[1, 4\] is in no token"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "told"), BAD, ids=[told for _, told in BAD])
def test_what_cannot_be_marked_is_named_by_line_and_span(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    with pytest.raises(IndexscopeError, match=told):
        loaded(written(tmp_path, row), PIECES)


def test_text_whose_tokenizer_tells_no_places_is_refused(tmp_path: Path) -> None:
    class Slow:
        is_fast = False

    with pytest.raises(IndexscopeError, match=r"give token ids with evidence_tokens"):
        loaded(written(tmp_path, {"text": "a b", "evidence": [[0, 1]], "answer": [2, 3]}), Slow())


def test_a_text_with_an_answer_is_a_sample_of_its_own_in_packed_data(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"text": "w1 w2 w3"}, {"text": "w4 w5 w6", "evidence": [[0, 2]], "answer": [6, 8]}, {"text": "w7 w8"}]
    found = loaded(written(tmp_path, *rows), tokenizer, max_length=16)
    assert sorted(sample.input_ids for sample in found if sample.evidence) == [(4, 5, 6)]
    (packed,) = (sample.input_ids for sample in found if not sample.evidence)
    assert sorted(packed) == [0, 0, 1, 2, 3, 7, 8]


def test_an_answer_beyond_the_longest_length_is_told_and_not_half_kept(tmp_path: Path) -> None:
    rows = [
        {"input_ids": list(range(1, 9)), "evidence_tokens": [[0, 2]], "answer": [end - 2, end]} for end in (5, 6, 8)
    ]
    found = loaded(written(tmp_path, *rows), None, max_length=5)
    assert [(sample.evidence is None, sample.cut_off) for sample in found] == [
        (False, False),
        (True, True),
        (True, True),
    ]


def test_the_fingerprint_is_of_what_is_marked_and_empty_without() -> None:
    plain = [Sample(0, "a", (1, 2, 3)), Sample(1, "b", (1, 2, 3))]
    marked = [Sample(0, "x", (1, 2, 3), Evidence(((0, 1),), (1, 2))), plain[1]]
    others = [
        [plain[1], marked[0]],
        [Sample(0, "x", (1, 2, 3), Evidence(((0, 1),), (1, 3))), plain[1]],
        [Sample(0, "x", (1, 2, 3), Evidence(((0, 1),), (1, 2), "copy")), plain[1]],
    ]
    assert evidence_fingerprint(plain) == ""
    assert evidence_fingerprint(marked) == evidence_fingerprint([Sample(5, "y", (9, 9), marked[0].evidence), plain[0]])
    assert len({evidence_fingerprint(one) for one in (marked, *others)}) == 4


def test_samples_that_are_written_out_are_read_with_what_they_mark(tmp_path: Path) -> None:
    one = Sample(0, "data.jsonl:1", (1, 2, 3, 4), Evidence(((0, 1),), (2, 4), "single"))
    (tmp_path / "kept.jsonl").write_bytes(as_rows([one]))
    (again,) = loaded(str(tmp_path / "kept.jsonl"), None)
    assert again == one
