"""Every format gives what a numpy reference wrote, in any slices, without holding a record whole."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from indexscope import IndexscopeError
from indexscope.storage.inputs.samples import Sample
from indexscope.storage.inputs.selections.dumps import list_records, open_rows
from indexscope.storage.inputs.selections.fingerprint import dump_fingerprint
from indexscope.storage.inputs.selections.matching import match
from indexscope.storage.inputs.selections.record import divided
from tests.storage.inputs.selections import written
from tests.storage.inputs.selections.written import WRITERS, Sequences

LAYERS, KEYS = 3, 4


def selections(length: int, seed: int) -> np.ndarray[Any, Any]:
    """Rows [length, layers, keys] with -1 where a query has fewer keys."""
    draw = np.random.default_rng(seed)
    rows = np.full((length, LAYERS, KEYS), -1)
    for query, layer in np.ndindex(length, LAYERS):
        keys = draw.permutation(query + 1)[:KEYS]
        rows[query, layer, : len(keys)] = keys
    return rows


def sequences(lengths: tuple[int, ...] = (9, 14, 23)) -> Sequences:
    """Token ids, and selections of all tokens but the last."""
    return [(list(range(seed, seed + length)), selections(length - 1, seed)) for seed, length in enumerate(lengths, 50)]


def form(name: str) -> Any:
    """The format that a writer writes."""
    return name.partition(" ")[0]


def as_sets(rows: np.ndarray[Any, Any]) -> list[list[set[int]]]:
    """Keys of every row and layer."""
    return [[set(keys[keys >= 0].tolist()) for keys in of_layers] for of_layers in rows]


@pytest.mark.parametrize("name", WRITERS)
def test_any_slice_of_any_record_is_what_was_written(tmp_path: Path, name: str) -> None:
    wrote = sequences() if name != "parquet" else [(ids[:-1], rows) for ids, rows in sequences()]
    found = list_records(WRITERS[name](tmp_path / "dump", wrote), form(name))
    assert sorted(one.ids.tolist() for one in found) == sorted(list(ids) for ids, _ in wrote)
    for one in found:
        ids, rows = next(pair for pair in wrote if list(pair[0]) == one.ids.tolist())
        record = divided(one.record, None, KEYS)
        assert (record.layers, record.first, record.rows, record.tokens) == (LAYERS, 0, len(rows), len(ids))
        reader = open_rows(record)
        for first, last in [(0, 1), (3, 8), (1, 4), (0, len(rows)), (len(rows) - 1, len(rows))]:
            read = reader.read(first, last).reshape(last - first, LAYERS, -1)
            assert as_sets(read) == as_sets(rows[first:last])
            assert read.dtype == np.int32
        reader.close()


@pytest.mark.parametrize("name", ["sglang", "vllm", "vllm arrays", "npz"])
def test_a_long_record_is_read_in_slices_within_a_fraction_of_its_size(tmp_path: Path, name: str) -> None:
    rows = np.arange(40_000 * 2 * 32, dtype=np.int32).reshape(40_000, 2, 32)  # 10 MB
    long = [(np.zeros(40_001, int), rows)]
    path = WRITERS[name](tmp_path, [(ids.tolist(), rows) for ids, rows in long])
    tracemalloc.start()
    (found,) = list_records(path, form(name))
    reader = open_rows(found.record)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    total = 0
    for first in range(0, 40_000, 256):
        part = reader.read(first, min(first + 256, 40_000))
        total += int(part.astype(np.int64).sum())
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert total == int(rows.astype(np.int64).sum())
    assert peak < rows.nbytes / 20


def test_listing_sglang_answers_holds_no_selection(tmp_path: Path) -> None:
    rows = np.zeros((50_000, 2, 32), np.int32)  # 13 MB, 17 MB as text
    path = written.sglang(tmp_path, [([1] * 50_001, rows)])
    tracemalloc.start()
    list_records(path, "sglang")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < rows.nbytes / 2


def test_an_answer_may_say_how_many_layers_it_has_and_where_its_rows_begin(tmp_path: Path) -> None:
    rows = selections(12, 1)
    lines = {"input_ids": list(range(13)), "start": 5, "meta_info": {"indexer_topk_num_layers": LAYERS}}
    lines["meta_info"]["indexer_topk"] = written.base64_of(rows[5:].astype("<i4").tobytes())
    (tmp_path / "a.json").write_text(json.dumps(lines, indent=1))
    (found,) = list_records(tmp_path / "a.json", "sglang")
    assert (found.record.layers, found.record.first, found.record.last) == (LAYERS, 5, 12)
    assert as_sets(open_rows(found.record).read(0, 2).reshape(2, LAYERS, -1)) == as_sets(rows[5:7])


def test_two_choices_of_one_answer_are_two_records(tmp_path: Path) -> None:
    rows = selections(8, 1)
    choice = {"indexer_topk": written.base64_of(written.npy_of(rows.astype(np.int32))), "token_ids": [7]}
    answer = {"prompt_token_ids": list(range(8)), "choices": [choice, {**choice, "token_ids": [9]}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(answer))
    found = list_records(tmp_path, "vllm")
    assert [one.ids.tolist()[-1] for one in found] == [7, 9]
    assert [one.record.name for one in found] == ["a.jsonl line 1 choice 0", "a.jsonl line 1 choice 1"]
    assert as_sets(open_rows(found[1].record).read(2, 8).reshape(6, LAYERS, -1)) == as_sets(rows[2:])


def broken(tmp_path: Path, name: str) -> tuple[Any, str]:
    """A malformed dump and its format."""
    rows = selections(8, 1).astype("<i4")
    text = written.base64_of(rows.tobytes())
    ids = list(range(9))
    answers: dict[str, Any] = {
        "no ids": {"meta_info": {"indexer_topk": text}},
        "no selections": {"input_ids": ids, "meta_info": {}},
        "wrong size": {"input_ids": ids + ids[:5], "meta_info": {"indexer_topk": text}},
        "cut off": {"input_ids": ids, "meta_info": {"indexer_topk": text[:-1]}},
        "ids of text": {"input_ids": "hello", "meta_info": {"indexer_topk": text}},
        "negative ids": {"input_ids": [-5, *ids[1:]], "meta_info": {"indexer_topk": text}},
        "layers that do not divide": {
            "input_ids": ids,
            "meta_info": {"indexer_topk_num_layers": 5, "indexer_topk": text},
        },
        "a list": [1],
    }
    if name in answers:
        (tmp_path / "dump.jsonl").write_text(json.dumps(answers[name]))
        return tmp_path, "sglang"
    if name == "no JSON":
        (tmp_path / "dump.jsonl").write_text('{"a": ')
        return tmp_path, "sglang"
    if name == "ends in the text":
        (tmp_path / "dump.jsonl").write_text('{"input_ids": [1], "meta_info": {"indexer_topk": "AAAA')
        return tmp_path, "sglang"
    if name == "empty file":
        (tmp_path / "dump.jsonl").write_text("")
        return tmp_path, "sglang"
    if name == "empty folder":
        return tmp_path, "parquet"
    if name == "nowhere":
        return tmp_path / "none", "npz"
    if name == "array alone":
        np.save(tmp_path / "a.npy", rows)
        return tmp_path, "vllm"
    if name in ("floats", "two dimensions", "too few rows"):
        made = {"floats": rows.astype(float), "two dimensions": rows[0], "too few rows": rows[:5]}[name]
        np.save(tmp_path / "a.npy", made)
        np.save(tmp_path / "a.tokens.npy", np.arange(9))
        return tmp_path, "vllm"
    if name == "truncated array":
        np.save(tmp_path / "a.npy", rows)
        np.save(tmp_path / "a.tokens.npy", np.arange(9))
        (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-8])
        return tmp_path, "vllm"
    if name == "no archive":
        (tmp_path / "a.npz").write_bytes(b"hello")
        return tmp_path, "npz"
    if name == "no selected":
        np.savez(tmp_path / "a.npz", input_ids=np.arange(9))
        return tmp_path, "npz"
    path = written.parquet(tmp_path / "p", [(ids[:-1], rows)]) / "dump.parquet"
    frame = pl.read_parquet(path)
    {
        "no column": frame.drop("token"),
        "a row missing": frame[:5].vstack(frame[6:]),
        "out of order": frame.reverse(),
        "keys of text": frame.with_columns(keys=pl.lit("a")),
        "not from the start": frame.filter(pl.col("position") > 2),
        "in two places": pl.concat([frame, frame.with_columns(record=pl.lit("z")), frame]),
    }[name].write_parquet(path)
    return path, "parquet"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no ids", "dump.jsonl line 1: has no input_ids"),
        ("no selections", "dump.jsonl line 1: has no meta_info.indexer_topk"),
        ("wrong size", "bytes of selections, which 14 tokens do not divide"),
        ("cut off", "dump.jsonl line 1: holds base64 text that is cut off"),
        ("ids of text", "dump.jsonl line 1: has no list of token ids"),
        ("negative ids", "dump.jsonl line 1: has token ids from -5 to 8"),
        ("layers that do not divide", "12 numbers a token, which 5 layers do not divide"),
        ("a list", "dump.jsonl line 1: is no JSON object"),
        ("no JSON", "dump.jsonl line 1: is not valid JSON"),
        ("ends in the text", "dump.jsonl: ends within the text"),
        ("empty file", "dump.jsonl: is empty"),
        ("empty folder", "has no file of the format parquet"),
        ("nowhere", "does not exist"),
        ("array alone", "a.npy: has no token ids beside it (a.tokens.npy or a.json)"),
        ("floats", "a.npy: holds float64, not integers"),
        ("two dimensions", "not [tokens, layers, k]"),
        ("too few rows", "a.npy: has 5 rows for 9 tokens"),
        ("truncated array", "a.npy: is cut off"),
        ("no archive", "a.npz: cannot be read"),
        ("no selected", "a.npz: has no array selected"),
        ("no column", "dump.parquet: has no column token"),
        ("a row missing", "(dump.parquet record r0): lacks rows, or has them out of order"),
        ("out of order", "lacks rows, or has them out of order"),
        ("keys of text", "not of lists of integers"),
        ("not from the start", "begins at position 3"),
        ("in two places", "has rows of one record in two places"),
    ],
)
def test_a_malformed_dump_is_told_in_one_line_that_names_the_file(tmp_path: Path, name: str, says: str) -> None:
    path, form = broken(tmp_path, name)
    with pytest.raises(IndexscopeError) as told:
        list_records(path, form)  # type: ignore[arg-type]
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_text_that_is_no_base64_is_told_with_its_record(tmp_path: Path) -> None:
    line = {"input_ids": list(range(9)), "meta_info": {"indexer_topk": "A" * 32 + "!" * 96}}
    (tmp_path / "d.jsonl").write_text(json.dumps(line))
    (found,) = list_records(tmp_path, "sglang")
    with pytest.raises(IndexscopeError, match=r"d\.jsonl line 1: holds what is no base64 text"):
        open_rows(found.record).read(0, 8)


def test_a_row_that_does_not_divide_asks_for_the_layers(tmp_path: Path) -> None:
    (found, *_) = list_records(written.sglang(tmp_path, sequences()), "sglang")
    assert divided(found.record, [0, 2, 5], None).named == (0, 2, 5)
    with pytest.raises(IndexscopeError, match="has 12 numbers a token, of which nothing tells how they divide into 5"):
        divided(found.record, None, 5)
    with pytest.raises(IndexscopeError, match="into layers and keys; give the model's layers that the dump holds"):
        divided(found.record, None, None)
    whole = divided(found.record, None, KEYS)
    with pytest.raises(IndexscopeError, match="holds 3 layers, and the study names 2"):
        divided(whole, [0, 1], KEYS)


def test_a_sample_gets_the_record_that_shares_most_of_its_tokens(tmp_path: Path) -> None:
    ids = list(range(20))
    path = written.npz(tmp_path, [(ids[:n], selections(n, n)) for n in (5, 20, 12)] + [([9] * 4, selections(4, 4))])
    samples = [Sample(0, "long", tuple(range(30))), Sample(1, "short", tuple(ids[:8])), Sample(2, "other", (3, 1, 2))]
    matched = match(list_records(path, "npz"), samples)
    assert {index: record.tokens for index, record in matched.records.items()} == {0: 20, 1: 20}
    assert matched.samples == ("other",)
    assert matched.unused == ("3.npz",)


def test_the_fingerprint_is_of_content_and_not_of_names(tmp_path: Path) -> None:
    one, other = (written.vllm_arrays(tmp_path / name, sequences()) for name in ("a", "b"))
    assert dump_fingerprint(one, "vllm") == dump_fingerprint(other, "vllm")
    np.save(other / "0.tokens.npy", np.arange(9))
    assert dump_fingerprint(one, "vllm") != dump_fingerprint(other, "vllm")
    assert dump_fingerprint(one / "1.npy", "vllm") != dump_fingerprint(one / "0.npy", "vllm")
