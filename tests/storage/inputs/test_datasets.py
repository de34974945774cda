"""Datasets become the same samples every time, and only samples that the model can take."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs import datasets
from indexscope.storage.inputs.datasets import DatasetSettings, Sample, dataset_fingerprint, load_samples, shard

VOCABULARY = 64
#: First five documents of `source` under seed 0.
ORDER = [f"data.jsonl:{line}" for line in (11, 14, 33, 34, 16)]


def words(ids: Sequence[int]) -> str:
    return " ".join(f"w{token}" for token in ids)


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Forty documents; document d is the word d + 1, d % 7 + 1 times."""
    file = tmp_path / "data.jsonl"
    rows = [{"text": words([number + 1] * (number % 7 + 1))} for number in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def all_ids(samples: list[Sample]) -> Counter[int]:
    return Counter(chain(*(sample.input_ids for sample in samples)))


def test_packing_keeps_every_token_and_ends_every_document(source: str, tokenizer: PreTrainedTokenizerFast) -> None:
    samples = load_samples(DatasetSettings(source=source, max_length=8, samples=None), tokenizer, VOCABULARY)
    expected = Counter({number + 1: number % 7 + 1 for number in range(40)}) + Counter({0: 40})
    total = sum(expected.values())
    assert [sample.index for sample in samples] == list(range(len(samples)))
    assert {len(sample.input_ids) for sample in samples[:-1]} == {8}
    # At most the one token that is too short for a sequence of its own is left out.
    assert total - sum(all_ids(samples).values()) == (1 if total % 8 == 1 else 0)
    assert all_ids(samples) - expected == Counter()


def test_without_packing_a_sample_is_a_document_cut_off(source: str, tokenizer: PreTrainedTokenizerFast) -> None:
    chosen = DatasetSettings(source=source, max_length=4, min_length=3, samples=None, packing=False)
    samples = load_samples(chosen, tokenizer, VOCABULARY)
    expected = {f"data.jsonl:{d + 1}": (d + 1,) * min(d % 7 + 1, 4) for d in range(40) if d % 7 + 1 >= 3}
    assert {sample.name: sample.input_ids for sample in samples} == expected


@pytest.mark.parametrize("packing", [True, False])
def test_asking_for_more_samples_only_adds_to_those_before(
    source: str, packing: bool, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "WINDOW", 60)
    chosen = DatasetSettings(source=source, max_length=8, samples=None, packing=packing)
    whole = load_samples(chosen, tokenizer, VOCABULARY)
    for count in range(1, len(whole) + 3):
        some = load_samples(chosen.model_copy(update={"samples": count}), tokenizer, VOCABULARY)
        assert some == whole[:count]


def test_the_seed_decides_the_order_and_nothing_else_does(source: str, tokenizer: PreTrainedTokenizerFast) -> None:
    chosen = DatasetSettings(source=source, max_length=8, samples=None, packing=False)
    one, again = (load_samples(chosen, tokenizer, VOCABULARY) for _ in range(2))
    other = load_samples(chosen.model_copy(update={"seed": 1}), tokenizer, VOCABULARY)
    assert one == again
    assert [sample.name for sample in one] != [sample.name for sample in other]
    assert {sample.name for sample in one} == {sample.name for sample in other}


def test_the_order_is_the_one_of_all_earlier_versions(source: str, tokenizer: PreTrainedTokenizerFast) -> None:
    # Written out: a change of the rule would silently compare studies on different data.
    chosen = DatasetSettings(source=source, max_length=8, samples=5, packing=False)
    names = [sample.name for sample in load_samples(chosen, tokenizer, VOCABULARY)]
    assert names == ORDER


def test_neighbours_of_a_long_document_are_not_neighbours_in_the_samples(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text(words([number + 1] * 200))
    chosen = DatasetSettings(source=str(tmp_path), max_length=10, samples=20)
    samples = load_samples(chosen, tokenizer, VOCABULARY)
    assert len({sample.input_ids[0] for sample in samples}) >= 6


def test_no_more_is_read_than_a_window(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.jsonl"
    row = json.dumps({"text": words([5] * 10)}) + "\n"
    file.write_text(row * 20 + "{ a fault far down")
    monkeypatch.setattr(datasets, "WINDOW", 50)
    chosen = DatasetSettings(source=str(file), max_length=8, samples=2)
    assert len(load_samples(chosen, tokenizer, VOCABULARY)) == 2
    with pytest.raises(IndexscopeError, match=r"a\.jsonl:21"):
        load_samples(chosen.model_copy(update={"samples": None}), tokenizer, VOCABULARY)


def test_the_seed_decides_which_files_of_a_large_folder_are_read(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "WINDOW", 1)
    for number in range(30):
        (tmp_path / f"{number:02d}.txt").write_text(words([number + 1] * 4))
    chosen = [DatasetSettings(source=str(tmp_path), max_length=4, samples=3, seed=seed) for seed in range(5)]
    read = {tuple(sample.name for sample in load_samples(one, tokenizer, VOCABULARY)) for one in chosen}
    assert len(read) == 5


def test_token_ids_need_no_tokenizer_and_are_not_joined(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pl.DataFrame({"input_ids": [[1, 2, 3, 4, 5], [6], [7, 8], []]}).write_parquet(file)
    samples = load_samples(DatasetSettings(source=str(file), max_length=4), None, 9)
    assert sorted(sample.input_ids for sample in samples) == [(1, 2, 3, 4), (7, 8)]


@pytest.mark.parametrize("ids", [[1, 64], [1, -1], [1, 2**40]])
def test_a_token_that_the_model_does_not_know_is_refused(tmp_path: Path, ids: list[int]) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"input_ids": ids}))
    reason = rf"a.jsonl:1: has token id {ids[1]}, but the model's vocabulary holds ids 0 to 63"
    with pytest.raises(IndexscopeError, match=reason):
        load_samples(DatasetSettings(source=str(file)), None, 64)


def test_a_tokenizer_of_another_model_is_refused(source: str, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(IndexscopeError, match="tokenizer that belongs to the model"):
        load_samples(DatasetSettings(source=source), tokenizer, 10)


def test_text_without_a_tokenizer_is_one_clear_line(source: str) -> None:
    with pytest.raises(IndexscopeError, match="no tokenizer"):
        load_samples(DatasetSettings(source=source), None, VOCABULARY)


def test_data_without_one_long_enough_sequence_is_refused(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "w1"}\n')
    chosen = DatasetSettings(source=str(file), packing=False)
    with pytest.raises(IndexscopeError, match="no sequence of at least 2 tokens"):
        load_samples(chosen, tokenizer, VOCABULARY)
    file.write_text("")
    with pytest.raises(IndexscopeError, match="no sequence"):
        load_samples(chosen, tokenizer, VOCABULARY)


def test_the_builtin_dataset_is_the_held_out_library(tokenizer: PreTrainedTokenizerFast) -> None:
    samples = load_samples(DatasetSettings(max_length=32, samples=12), tokenizer, VOCABULARY)
    assert len(samples) == 12
    assert all(sample.name.startswith(("topics/", "lib/")) for sample in samples)
    with pytest.raises(IndexscopeError, match="builtin:python-stdlib"):
        load_samples(DatasetSettings(source="builtin:other"), tokenizer, VOCABULARY)


def test_the_fingerprint_is_over_token_ids_in_order_only() -> None:
    samples = [Sample(0, "a", (1, 2)), Sample(1, "b", (3,))]
    renamed = [Sample(5, "x", (1, 2)), Sample(6, "y", (3,))]
    assert dataset_fingerprint(samples) == dataset_fingerprint(renamed)
    assert len(dataset_fingerprint(samples)) == 64
    others = [
        samples[:1],
        samples[::-1],
        [Sample(0, "a", (1,)), Sample(1, "b", (2, 3))],
        [Sample(0, "a", (1, 2, 3))],
        [*samples, Sample(2, "c", ())],
        [],
    ]
    assert len({dataset_fingerprint(one) for one in [samples, *others]}) == 1 + len(others)


TOKENS = st.lists(st.lists(st.integers(0, 3), max_size=3).map(tuple), max_size=4)


@given(TOKENS, TOKENS)
def test_fingerprints_are_equal_exactly_when_token_ids_are(
    one: list[tuple[int, ...]], two: list[tuple[int, ...]]
) -> None:
    prints = [dataset_fingerprint([Sample(0, "", ids) for ids in dataset]) for dataset in (one, two)]
    assert (prints[0] == prints[1]) == (one == two)


@given(st.integers(0, 50), st.integers(1, 9))
def test_shards_are_the_samples_cut_in_order(count: int, size: int) -> None:
    samples = [Sample(index, "", (1, 2)) for index in range(count)]
    shards = shard(samples, size)
    assert [sample for _, part in shards for sample in part] == samples
    assert all(len(part) == size for _, part in shards[:-1])
    names = [name for name, _ in shards]
    assert names == sorted(names) == [f"shard-{number:05d}" for number in range(len(shards))]


def test_a_shard_of_no_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="shard size"):
        shard([], 0)


@given(
    documents=st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=30), min_size=1, max_size=12),
    length=st.integers(2, 9),
    seed=st.integers(0, 99),
    window=st.sampled_from([20, 10**6]),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_packed_samples_hold_each_token_as_often_as_the_data(
    documents: list[list[int]],
    length: int,
    seed: int,
    window: int,
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(datasets, "WINDOW", window)
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps({"text": words(ids)}) + "\n" for ids in documents))
    chosen = DatasetSettings(source=str(file), max_length=length, samples=None, seed=seed)
    samples = load_samples(chosen, tokenizer, VOCABULARY)
    expected = Counter(chain(*documents)) + Counter({0: len(documents)})
    lost = expected - all_ids(samples)
    assert all_ids(samples) - expected == Counter()
    assert sum(lost.values()) == (1 if sum(expected.values()) % length == 1 else 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_length": 1},
        {"samples": 0},
        {"min_length": 1},
        {"min_length": 9, "max_length": 8},
        {"source": ""},
        {"unknown": 1},
        {"seed": "x"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DatasetSettings.model_validate(wrong)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        DatasetSettings().seed = 3


def test_what_is_held_out_and_what_is_trained_on_are_all_documents_once(tmp_path: Path) -> None:
    rows = [{"input_ids": [number, number + 1, number + 2]} for number in range(0, 900, 3)]
    (tmp_path / "data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    settings = DatasetSettings(source=str(tmp_path / "data.jsonl"), samples=None)
    every, train, held_out = (
        {sample.input_ids for sample in load_samples(settings, None, 1000, part)}
        for part in ("all", "train", "held_out")
    )
    assert len(every) == 300
    assert train | held_out == every
    assert not train & held_out
    assert 10 <= len(held_out) <= 60
