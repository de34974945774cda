"""report.json keeps to its published JSON Schema, which knows every key, its type and its unit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from indexscope.analysis.report import ReportInput, build_json, dump
from indexscope.analysis.report.json_schema import document, schema
from indexscope.analysis.report.over_time import with_history
from tests.report.fixtures import report
from tests.report.histories import broken_and_mended

PUBLISHED = Path(__file__).parents[2] / "docs" / "report.schema.json"
VALIDATOR = Draft202012Validator(schema())


def errors(content: Any) -> list[str]:
    return [f"{list(error.absolute_path)}: {error.message[:200]}" for error in VALIDATOR.iter_errors(content)]


def content_of(given: ReportInput) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dump(build_json(given)))
    return found


@pytest.fixture(scope="module")
def usual() -> dict[str, Any]:
    return content_of(report(layers=2, heads=1, panels=True))


def test_the_published_file_is_the_schema_of_this_version_and_valid_itself() -> None:
    Draft202012Validator.check_schema(schema())
    assert PUBLISHED.read_text() == document()


@pytest.mark.parametrize(
    "changes",
    [
        {"panels": True},
        {"candidates": ()},
        {"candidates": ("a", "b", "c"), "dense": ("b",)},
        {"candidates": ("light",), "dense": ("baseline", "light")},
        {"audit_failed": ("light",)},
        {"gates": False, "samples": 2},
    ],
)
def test_reports_of_all_kinds_keep_to_it(changes: dict[str, Any]) -> None:
    assert errors(content_of(report(layers=2, heads=1, **changes))) == []


def test_a_report_with_a_history_keeps_to_it(usual: dict[str, Any]) -> None:
    files = {"report.json": dump(usual), "report.html": "", "report.md": "", "opened.md": ""}
    published = json.loads(with_history(files, broken_and_mended(), None)["report.json"])
    assert published["history"]["breaks"] and published["history"]["runs"][1]["metrics"]
    assert errors(published) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda content: content.update(new=1), "'new' was unexpected"),
        (lambda content: content["metrics"][0].update(new=1), "'new' was unexpected"),
        (lambda content: content["output_divergence"][0].update(new=1), "'new' was unexpected"),
        (lambda content: content["models"][0].update(parameters="many"), "'many' is not of type"),
        (lambda content: content["comparisons"][0].update(value="0.1"), "'0.1' is not of type"),
        (lambda content: content["comparisons"][0].update(n=1.5), "1.5 is not of type"),
        (lambda content: content["metrics"][0].update(name=None), "None is not of type"),
        (lambda content: content["verdict"].update(level="fine"), "'fine' is not one of"),
        (lambda content: content["ranking"][0].pop("cost"), "'cost' is a required property"),
        (lambda content: content.update(schema_version=99), "1 was expected"),
    ],
)
def test_an_unknown_key_a_wrong_type_and_a_missing_key_are_told(
    usual: dict[str, Any], change: Callable[[dict[str, Any]], object], told: str
) -> None:
    content = json.loads(json.dumps(usual))
    change(content)
    (error,) = errors(content)
    assert told in error


def test_every_value_of_a_row_has_a_meaning_and_numbers_their_unit() -> None:
    cells = [
        (f"{part}.{name}", cell)
        for part, rows in schema()["properties"].items()
        for name, cell in rows.get("items", {}).get("properties", {}).items()
    ]
    assert len(cells) > 80
    assert [name for name, cell in cells if not cell["description"]] == []
    bare = {name.partition(".")[2] for name, cell in cells if "number" in cell["type"] and "x-unit" not in cell}
    assert bare <= {"p", "p_adjusted"}
