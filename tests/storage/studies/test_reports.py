"""A report appears with its JSON last, and is believed only if all its parts are there."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from indexscope.errors import IndexscopeError
from indexscope.layout import REPORT_SCHEMA
from indexscope.storage.studies.reports import read_report, write_report

REPORT: dict[str, Any] = {
    "study": "demo",
    "verdict": {"headline": "unchanged"},
    "models": [{"name": "a", "role": "baseline", "fingerprint": "f"}],
    "metrics": [{"model": "a", "name": "nll", "layer": None, "value": 1.5, "unit": "nats"}],
    "comparisons": [],
    "gates": [],
    "causality": [{"model": "a", "passed": True}],
    "provenance": {},
}
FILES: dict[str, bytes | str] = {"report.html": "<p>ü</p>", "report.json": json.dumps(REPORT), "report.md": b"# x"}


@pytest.mark.parametrize("place", ["local", "memory"])
def test_what_was_written_is_read(place: str, tmp_path: Path) -> None:
    folder = str(tmp_path / "a" / "report") if place == "local" else f"memory://{uuid.uuid4().hex}/report"
    write_report(folder, FILES)
    assert read_report(folder) == REPORT
    assert read_report(f"{folder}/report.json") == REPORT
    if place == "local":
        assert (Path(folder) / "report.html").read_text(encoding="utf-8") == "<p>ü</p>"
        assert sorted(os.listdir(folder)) == ["report.html", "report.json", "report.md"]


def test_a_report_json_beside_the_caller_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(tmp_path, FILES)
    monkeypatch.chdir(tmp_path)
    assert read_report("report.json") == read_report(".") == REPORT


def test_other_files_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write_report(tmp_path, FILES)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_crash_leaves_no_torn_file_and_json_comes_last(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path, {name: "old" for name in FILES})
    count, replace = 0, os.replace

    def fail(*args: Any) -> None:
        nonlocal count
        count += 1
        if count == call:
            raise OSError(5, "Input/output error")
        replace(*args)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_report(tmp_path, FILES)
    assert (tmp_path / "report.json").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["report.html", "report.json", "report.md"]
    assert all((tmp_path / name).read_text() in ("old", str(FILES[name])) for name in ("report.html",))


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\\b"])
def test_only_plain_file_names_are_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        write_report(tmp_path / "report", {"report.html": "x", name: "x"})
    assert list(tmp_path.rglob("*.html")) == []
    assert list(tmp_path.rglob("*.tmp")) == []


def test_a_folder_without_a_report_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(IndexscopeError, match="holds no report"):
            read_report(place)


BROKEN = {
    "torn": json.dumps(REPORT)[:-3],
    "list": "[]",
    "nan": json.dumps(REPORT | {"verdict": float("nan")}),
    "nested": "[" * 100_000,
    "no gates": json.dumps({part: value for part, value in REPORT.items() if part != "gates"}),
    "models no list": json.dumps(REPORT | {"models": {}}),
    "row no object": json.dumps(REPORT | {"gates": [3]}),
    "infinite": json.dumps(REPORT).replace("1.5", "1e999"),
    "value no number": json.dumps(REPORT).replace("1.5", '"1.5"'),
    "layer no layer": json.dumps(REPORT).replace('"layer": null', '"layer": 70000'),
    "role": json.dumps(REPORT).replace('"baseline"', '["baseline"]'),
    "no direction": json.dumps(REPORT | {"definitions": [{"name": "nll", "unit": "nats", "better": True}]}),
    "row without value": json.dumps(REPORT | {"metrics": [{"model": "a", "name": "nll", "layer": 0, "unit": "nats"}]}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_report_is_one_clear_line(case: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(BROKEN[case])
    with pytest.raises(IndexscopeError, match=r"report\.json") as caught:
        read_report(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_report_of_a_newer_version_is_refused_and_one_of_the_first_is_read(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(REPORT | {"schema_version": REPORT_SCHEMA + 1}))
    with pytest.raises(IndexscopeError, match=rf"report schema {REPORT_SCHEMA + 1}; .*; upgrade indexscope"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    assert "schema_version" not in read_report(tmp_path)


def test_a_report_is_read_from_a_file_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "nightly.json").write_text(json.dumps(REPORT))
    assert read_report(tmp_path / "nightly.json") == REPORT
    with pytest.raises(IndexscopeError, match="there is no such file"):
        read_report(tmp_path / "no.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(IndexscopeError, match="there is no such file"):
        read_report(tmp_path / "folder.json")
