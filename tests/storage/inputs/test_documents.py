"""Files are found and read as what they are, and every fault is told with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs import documents as documents_module
from indexscope.storage.inputs.data_files import data_files
from indexscope.storage.inputs.datasets import DatasetSettings, load_samples
from indexscope.storage.inputs.documents import Document, documents
from indexscope.storage.inputs.samples import Sample, as_rows, document_of


def read(source: object, column: str = "text", split: str = "train") -> list[tuple[str, object]]:
    return [(found.name, found.content) for found in documents(data_files(str(source), split), column)]


def jsonl(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refused(source: object, **settings: str) -> str:
    with pytest.raises(IndexscopeError) as caught:
        read(source, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_jsonl_rows_are_named_by_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one"}\n\n{"text": "two", "more": 1}\n{"text": null}\n{"text": ""}\n{"text": "end"}')
    assert read(file) == [("a.jsonl:1", "one"), ("a.jsonl:3", "two"), ("a.jsonl:6", "end")]


def test_a_byte_order_mark_and_odd_line_separators_are_no_trouble(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"text": "one\xe2\x80\xa8still one"}\r\n{"text": "two"}\r\n')
    assert read(file) == [("a.jsonl:1", "one\u2028still one"), ("a.jsonl:2", "two")]


def test_lone_surrogates_become_text_that_can_be_encoded(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a\\ud800b"}\n')
    assert read(file) == [("a.jsonl:1", "a?b")]


def test_compressed_jsonl_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"text": "one"}\n'))
    assert read(file) == [("a.jsonl.gz:1", "one")]
    file.write_bytes(file.read_bytes()[:-9])
    assert "a.jsonl.gz: cannot be read" in refused(file)
    file.write_bytes(b"not gzip")
    assert "a.jsonl.gz: cannot be read" in refused(file)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"body": "x", "id": 1}', "set column to one of: body, id"),
        ('{"text": 3}', "holds a int"),
        ('{"text": [1, "x"]}', "list of other things"),
        ('{"text": [true]}', "list of other things"),
        ('{"text": {"a": 1}}', "holds a dict"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "fine"}\n' + line + "\n")
    message = refused(file)
    assert message.startswith("a.jsonl:2: ")
    assert words in message


def test_bytes_that_are_no_utf8_are_named_by_line(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"text": "\xff\xfe"}\n')
    assert refused(file).startswith("a.jsonl:1: is not JSON")


def test_parquet_rows_are_named_by_file_and_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents_module, "BATCH_ROWS", 2)
    file = tmp_path / "a.parquet"
    pl.DataFrame({"text": ["a", None, "", "d", "e"], "other": range(5)}).write_parquet(file)
    assert read(file) == [("a.parquet:0", "a"), ("a.parquet:3", "d"), ("a.parquet:4", "e")]
    assert "set column to one of: other, text" in refused(file, column="body")
    assert "holds a int" in refused(file, column="other")


def test_token_ids_are_read_from_a_named_column_or_where_text_is_absent(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pl.DataFrame({"input_ids": [[1, 2], [3]], "other": [[4], [5]]}).write_parquet(file)
    assert read(file) == [("a.parquet:0", (1, 2)), ("a.parquet:1", (3,))]
    assert read(file, "other") == [("a.parquet:0", (4,)), ("a.parquet:1", (5,))]
    lines = jsonl(tmp_path / "a.jsonl", {"input_ids": [7, 8]})
    assert read(lines) == [("a.jsonl:1", (7, 8))]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"nonsense" * 9])
def test_a_file_that_is_no_parquet_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    assert "a.parquet: is not a readable Parquet file" in refused(tmp_path / "a.parquet")


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert read(tmp_path / "a.txt") == [("a.txt", "one\n\ntwo\n")]


def test_a_huge_text_comes_in_parts_that_together_are_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents_module, "LONGEST_TEXT", 5)
    text = "käse und brot für alle"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    parts = read(tmp_path / "a.txt")
    assert "".join(str(content) for _, content in parts) == text
    assert [name for name, _ in parts[:3]] == ["a.txt", "a.txt#1", "a.txt#2"]


def test_text_that_is_no_utf8_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    assert "a.txt: is not UTF-8" in refused(tmp_path)


def test_a_folder_without_tables_is_one_document_a_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.md").write_text("b")
    (tmp_path / "sub" / "a.py").write_text("a")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / ".hidden").write_text("h")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "c.txt").write_text("c")
    assert read(tmp_path) == [("b.md", "b"), ("sub/a.py", "a")]


def test_a_folder_with_tables_is_those_tables(tmp_path: Path) -> None:
    jsonl(tmp_path / "data" / "b.jsonl", {"text": "b"})
    pl.DataFrame({"text": ["a"]}).write_parquet(tmp_path / "data" / "a.parquet")
    (tmp_path / "README.md").write_text("a card")
    (tmp_path / "dataset_infos.json").write_text("{}")
    assert read(tmp_path) == [("data/a.parquet:0", "a"), ("data/b.jsonl:1", "b")]


def test_splits_are_told_apart_by_name(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "test.jsonl", "sub/validation.jsonl"):
        jsonl(tmp_path / name, {"text": name})
    assert [name for name, _ in read(tmp_path)] == ["train-00000-of-00002.jsonl:1", "train-00001-of-00002.jsonl:1"]
    assert [name for name, _ in read(tmp_path, split="dev")] == ["sub/validation.jsonl:1"]
    assert "set split to one of: test, train, validation" in refused(tmp_path, split="extra")


def test_files_whose_names_speak_of_no_split_are_all_read(tmp_path: Path) -> None:
    for name in ("part-0.jsonl", "trains.jsonl"):
        jsonl(tmp_path / name, {"text": name})
    assert len(read(tmp_path)) == 2


@pytest.mark.parametrize(
    "source", ["nowhere.jsonl", "data/nowhere.parquet", "/no/such/folder", "a/b/c", "../x", "a\0b", "nosuch://x"]
)
def test_a_source_that_is_not_there_is_one_clear_line(source: str) -> None:
    refused(source)


@pytest.mark.parametrize("name", ["a.csv", "a.TSV", "a.arrow", "a.zip"])
def test_a_format_that_is_not_read_is_not_taken_for_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("text\nhello\n")
    assert "convert it to Parquet or JSONL" in refused(tmp_path / name)


def test_an_empty_folder_is_one_clear_line(tmp_path: Path) -> None:
    assert "holds no files" in refused(tmp_path)


def test_names_in_the_data_are_never_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    file = jsonl(tmp_path / "a.jsonl", {"text": str(secret)}, {"text": f"file://{secret}"})
    assert [content for _, content in read(file)] == [str(secret), f"file://{secret}"]


def test_a_url_is_read_like_a_folder() -> None:
    memory: Any = fsspec.filesystem("memory")
    memory.pipe_file("/documents-test/data/train.jsonl", b'{"text": "one"}\n')
    memory.pipe_file("/documents-test/data/test.jsonl", b'{"text": "two"}\n')
    assert read("memory://documents-test/data") == [("train.jsonl:1", "one")]
    assert read("memory://documents-test/data/test.jsonl") == [("test.jsonl:1", "two")]
    assert "does not exist" in refused("memory://documents-test/nowhere")


def test_reading_is_a_stream(tmp_path: Path) -> None:
    # The fault in line 2 is not met by a reader who stops after line 1.
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one"}\n{')
    stream = documents(data_files(str(file), "train"), "text")
    assert next(stream) == Document("a.jsonl:1", "one")


def test_rows_of_samples_remember_the_documents_that_they_were_cut_from(tmp_path: Path) -> None:
    samples = [Sample(0, "lib/ast.py@64", (1, 2, 3)), Sample(1, "topics/lambda", (4, 5))]
    (tmp_path / "rows.jsonl").write_bytes(as_rows(samples))
    settings = DatasetSettings(source=str(tmp_path / "rows.jsonl"), column="input_ids", samples=None)
    found = load_samples(settings, None, 10)
    assert {(one.name, one.input_ids) for one in found} == {(one.name, one.input_ids) for one in samples}
    assert {document_of(one.name) for one in found} == {"lib/ast.py", "topics/lambda"}
