"""Needles and texts are where and as long as they are said to be, and all of it follows from the seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs.checkpoints import BUILTIN_FOLDER, load_tokenizer
from indexscope.storage.inputs.datasets import DatasetSettings, load_samples
from indexscope.storage.inputs.needle.make import needle_documents
from indexscope.storage.inputs.needle.settings import KINDS, NeedleSettings
from indexscope.storage.inputs.packing import TokenDocument
from tests.storage.inputs.test_evidence import byte_level, sentence_piece

BUILT_IN = load_tokenizer(BUILTIN_FOLDER / "baseline")
HAY = "The quick brown fox jumps over the lazy dog.\nPack my box with five dozen jugs.\n"


def text_file(folder: Path) -> str:
    (folder / "hay.txt").write_text(HAY * 20)
    return str(folder / "hay.txt")


def made(tokenizer: Any = BUILT_IN, seed: int = 0, **told: Any) -> list[TokenDocument]:
    return list(
        needle_documents(NeedleSettings(**{"lengths": [256], "depths": 5, "per_cell": 1, **told}), tokenizer, seed)
    )


def depth_of(document: TokenDocument) -> float:
    assert document.evidence is not None
    return document.evidence.spans[0][0] / document.evidence.answer[0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_cell_has_its_samples_of_exactly_its_length_at_its_depth(kind: str) -> None:
    found = made(kinds=[kind], lengths=[300, 512], depths=8, per_cell=2)
    cells = Counter(tuple(document.name.split()[place] for place in (1, 3)) for document in found)
    assert set(cells.values()) == {2} and len(cells) == 16
    for document in found:
        _, length, _, part, *_ = document.name.split()
        assert len(document.input_ids) == int(length)
        wanted = int(part) - 1
        question = len(BUILT_IN(f"Question: what does the note of the {'x' * 20} read? Answer: it reads:")["input_ids"])
        fits = (wanted + 0.25) / 8 < 1 - 3 * question / int(length)
        assert int(depth_of(document) * 8) == wanted or not fits


@pytest.mark.parametrize("tokenizer", [BUILT_IN, byte_level(), sentence_piece()], ids=["built in", "bytes", "pieces"])
def test_the_answer_is_what_the_evidence_says_whatever_the_tokenizer(tmp_path: Path, tokenizer: Any) -> None:
    hay = text_file(tmp_path)
    for document in made(tokenizer, kinds=["single", "multi_key", "copy"], lengths=[700], haystack=hay):
        assert document.evidence is not None
        ((first, last),) = document.evidence.spans
        answer = document.input_ids[slice(*document.evidence.answer)]
        assert document.input_ids[first:last] == answer, "a copy of it, token by token"
        assert document.evidence.answer[1] == len(document.input_ids) == 700


def test_several_values_are_all_marked_in_order_and_a_chain_leads_from_the_number_to_the_last_name() -> None:
    for document in made(kinds=["multi_value", "variable_tracking"]):
        assert document.evidence is not None
        spans = [BUILT_IN.decode(document.input_ids[slice(*span)]).strip() for span in document.evidence.spans]
        answer = BUILT_IN.decode(document.input_ids[slice(*document.evidence.answer)]).strip()
        assert len(spans) == 4
        if document.evidence.kind == "multi_value":
            assert ", ".join(spans) == answer
        else:
            links = dict(span.split(" = ") for span in spans)
            name = list(links)[-1]
            while name in links:
                name = links[name]
            assert name == answer
            assert f"{list(links)[-1]} =" in BUILT_IN.decode(document.input_ids[document.evidence.spans[-1][1] :])


def test_others_of_its_kind_are_hidden_beside_the_one_that_is_asked() -> None:
    for document in made(kinds=["multi_key"], lengths=[512]):
        assert BUILT_IN.decode(document.input_ids).count("The code of the") == 5


def test_a_sample_follows_from_seed_and_cell_alone() -> None:
    few = {document.name: document for document in made(kinds=["single", "copy"], lengths=[256])}
    more = {document.name: document for document in made(lengths=[256, 300], per_cell=2)}
    assert len(few) < len(more) and all(more[name] == document for name, document in few.items())
    other = {document.name: document for document in made(seed=1, kinds=["single", "copy"], lengths=[256])}
    assert set(other) == set(few) and all(other[name] != document for name, document in few.items())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.integers(230, 600), st.integers(1, 12), st.sampled_from(KINDS), st.integers(0, 3))
def test_marks_hold_for_any_length_and_depth(length: int, depths: int, kind: str, seed: int) -> None:
    for document in made(seed=seed, kinds=[kind], lengths=[length], depths=depths):
        assert document.evidence is not None
        ends = [end for span in document.evidence.spans for end in span]
        assert ends == sorted(ends) and ends[-1] <= document.evidence.answer[0] < document.evidence.answer[1] == length
        assert len(document.input_ids) == length


def test_a_kind_that_does_not_fit_is_named() -> None:
    with pytest.raises(
        IndexscopeError, match=r"needle\.lengths: 64 tokens leave no room for a text around multi_value"
    ):
        made(kinds=["multi_value"], lengths=[64])


def test_as_a_dataset_it_has_every_cell_by_itself_and_needs_a_tokenizer() -> None:
    needle = NeedleSettings(kinds=("single",), lengths=(128, 200), depths=3, per_cell=2)
    chosen = DatasetSettings(source="builtin:needle", needle=needle)
    samples = load_samples(chosen, BUILT_IN, 4096)
    assert len(samples) == 12 and all(sample.evidence is not None for sample in samples)
    assert {len(sample.input_ids) for sample in samples} == {128, 200}
    some = load_samples(DatasetSettings(source="builtin:needle", needle=needle, samples=5), BUILT_IN, 4096)
    assert some == samples[:5]
    with pytest.raises(IndexscopeError, match="no tokenizer"):
        load_samples(chosen, None, 4096)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"source": "builtin:needle", "needle": {"lengths": [512, 256]}}, "must increase"),
        ({"source": "builtin:needle", "needle": {"kinds": ["single", "single"]}}, "names a kind twice"),
        ({"source": "builtin:needle", "needle": {"lengths": [512]}, "max_length": 256}, "would cut the answers"),
        ({"source": "data.jsonl", "needle": {"lengths": [512]}}, "has needle, which is of builtin:needle"),
        ({"source": "builtin:needle", "needle": {"lengths": [16]}}, "greater than or equal to 64"),
    ],
)
def test_settings_that_make_no_sense_are_refused(told: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        DatasetSettings(**told)


def test_a_haystack_without_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "ids.jsonl").write_text(json.dumps({"input_ids": [1, 2]}))
    with pytest.raises(IndexscopeError, match="no text to hide needles in"):
        made(haystack=str(tmp_path / "ids.jsonl"))
