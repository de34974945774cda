"""report.md fits a pull request's comment and report.junit.xml a CI system, whatever the study holds."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from markdown_it import MarkdownIt

from indexscope.analysis.report import ReportInput, build_junit
from indexscope.analysis.report.comment import Comment, size
from indexscope.analysis.report.inputs import GATES_SCHEMA
from indexscope.analysis.report.markdown_report import build_markdown
from indexscope.analysis.report.over_time import PLACE
from tests.report.fixtures import report

NASTY = (
    "</summary></details><script>alert(1)</script>",
    "@octocat fixes #12 and GH-34, x@example.org",
    "a|b `c` **d** [e](https://example.org) ![f](g) <!-- h",
    "# heading\n\n- list\n| x |",
    "\x00\x0b]]> & < \ufffe",
)


def gates(*rows: tuple[Any, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=GATES_SCHEMA, orient="row")


def rendered(text: str) -> str:
    """As GitHub would: raw HTML stays, tables are tables."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


@pytest.mark.parametrize(
    ("layers", "candidates", "many"), [(4, 1, 1), (4, 3, 1), (61, 1, 1), (61, 4, 1), (61, 12, 1), (61, 3, 100)]
)
def test_a_report_fits_a_comment_at_any_size(layers: int, candidates: int, many: int) -> None:
    names = tuple(f"candidate {'x' * 60} {number}" for number in range(candidates))
    given = report(layers=layers, candidates=names, heads=1)
    rows = [
        (f"gate {n} ({name})", "nll < 1 per layer", name, 2.0, n > 3, 1, "r" * 200)
        for n in range(many)
        for name in names
    ]
    text = build_markdown(replace(given, gates=gates(*rows)))
    assert size(text) < 65_536
    assert text.count("<details>") == text.count("</details>") >= 1
    assert text.count("❌") >= min(len(rows), 3 * candidates), "failed gates are shown whatever the number"
    if candidates == 12 or many == 100:
        assert re.search(r"\d+ more rows are in report.html|Left out here", text)


def test_the_verdict_comes_first_then_gates_then_headline_numbers() -> None:
    text = build_markdown(report())
    order = [
        text.index(part)
        for part in ("**Compared with", "## Gates", "❌ failed", "✅ passed", "## Key numbers of light", "<details>")
    ]
    assert order == sorted(order)
    assert "| ❌ failed | recall is kept |" in text and "layer 2 fails" in text


def before_the_fold(text: str) -> str:
    return text.partition("<details>")[0]


@pytest.mark.parametrize(("layers", "names"), [(6, ("light",)), (61, ("light",)), (6, ())])
def test_what_stands_open_fits_a_screen(layers: int, names: tuple[str, ...]) -> None:
    text = before_the_fold(build_markdown(report(layers=layers, candidates=names, heads=1)))
    assert len(text.encode()) <= 4_000
    assert "[report.html](report.html), [report.json](report.json)" in text
    model = names[0] if names else "baseline"
    table = text.partition(f"## Key numbers of {model}\n\n")[2].partition("\n\n")[0].splitlines()
    assert 6 <= len(table) - 2 <= 8 and table[2].startswith("| next-token loss (nats) | ")


def test_a_dozen_candidates_are_a_line_each_and_their_key_numbers_are_folded() -> None:
    names = tuple(f"light {number:02d}" for number in range(12))
    text = build_markdown(report(candidates=names, heads=1))
    opened = before_the_fold(text)
    assert len(opened.encode()) <= 6_000 and "## Key numbers" not in opened
    ranked = opened.partition("## Ranking\n\n")[2].partition("\n\n")[0].splitlines()[2:]
    assert sorted(line.split(" | ")[1] for line in ranked) == list(names)
    assert all(f"<summary>{name}: key numbers</summary>" in text for name in names)


def test_gates_beyond_the_screen_and_all_reasons_are_folded() -> None:
    rows = [(f"gate {n}", "nll < 1", "light", 2.0, n > 2, None, f"because {n}") for n in range(30)]
    text = build_markdown(replace(report(), gates=gates(*rows)))
    opened = before_the_fold(text)
    assert opened.count("❌ failed") == 3 and opened.count("because") == 3 and opened.count("| gate ") == 10 + 1
    assert "and 20 more gates, below." in opened
    assert all(f"because {n} |" in text for n in range(30))


def test_a_column_that_says_nothing_is_no_column() -> None:
    text = build_markdown(report(dense=("baseline", "light"), candidates=("light",)))
    for block in text.split("\n\n"):
        rows = [re.split(r"(?<!\\) \| ", line) for line in block.splitlines() if line.startswith("| ")]
        for cells in list(zip(*rows, strict=True))[1:] if len(rows) > 1 else ():
            assert any(cell.strip(" |") not in ("", "–") for cell in cells[1:]), cells
    assert "## Key numbers of light" in text and "selection recall" not in before_the_fold(text)


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("several", [False, True])
def test_no_name_breaks_out_of_the_markdown(name: str, several: bool) -> None:
    given = report(baseline=name, candidates=(f"{name} 1", f"{name} 2") if several else (f"{name} 1",))
    given = replace(given, study=name, gates=gates((name, name, f"{name} 1", 1.0, False, None, name)))
    plain = build_markdown(report(candidates=("a", "b") if several else ("a",), baseline="c"))
    html, usual = rendered(build_markdown(given).replace(PLACE, "")), rendered(plain)
    tags = ("<details>", "</details>", "</summary>", "<h1", "<h2", "<h3", "<ul>")
    assert [html.count(tag) for tag in tags] == [usual.count(tag) for tag in tags]
    assert not re.search(r"<(script|img)\b|<!--", html)
    assert re.findall(r"<a\b[^>]*>", html) == ['<a href="report.html">', '<a href="report.json">']
    assert not re.search(r"@\w|#\d|GH-\d", re.sub(r"&#x?\w+;", "", html))


def test_every_gate_and_candidate_is_a_test_case() -> None:
    root = ElementTree.fromstring(build_junit(report()).encode())
    (suite,) = root
    assert (root.tag, suite.tag, suite.get("name")) == ("testsuites", "testsuite", "python-stdlib, baseline and light")
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "3", "failures": "1", "errors": "0", "skipped": "1"}
    assert {name: root.get(name) for name in counts} == {**counts, "skipped": None}, "as junit-10.xsd has it"
    cases = suite.findall("testcase")
    assert [(case.get("name"), case.get("classname")) for case in cases] == [
        ("recall is kept", "light"),
        ("loss is kept", "light"),
        ("nothing measured", "light"),
    ]
    (failure,) = cases[0]
    assert failure.tag == "failure" and "layer 2 fails" in str(failure.get("message"))
    assert "value: -0.0284" in str(failure.text) and "layer: 2" in str(failure.text)
    assert list(cases[1]) == [] and [child.tag for child in cases[2]] == ["skipped"]


def schema_errors(root: ElementTree.Element) -> list[str]:
    """What Jenkins' junit-10.xsd and GitLab ask of a file, by element: attributes, and children in their order."""
    allowed: dict[str, tuple[set[str], list[str]]] = {
        "testsuites": ({"name", "time", "tests", "failures", "errors"}, ["testsuite"]),
        "testsuite": ({"name", "time", "tests", "failures", "errors", "skipped"}, ["testcase", "system-out"]),
        "testcase": ({"name", "classname", "time"}, ["skipped", "failure"]),
        "failure": ({"message", "type"}, []),
        "skipped": ({"message"}, []),
        "system-out": (set(), []),
    }
    wrong = []
    for element in root.iter():
        attributes, children = allowed[element.tag]
        places = [children.index(child.tag) if child.tag in children else -1 for child in element]
        if set(element.attrib) - attributes or -1 in places or places != sorted(places):
            wrong.append(element.tag)
        if element.tag in ("testsuite", "testcase") and not element.get("name"):
            wrong.append(f"{element.tag} without a name")
    return wrong


@pytest.mark.parametrize("name", NASTY)
def test_the_xml_is_valid_whatever_a_name_holds(name: str) -> None:
    given = replace(report(), study=name, gates=gates((name, name, name, None, False, 3, name)))
    text = build_junit(given)
    root = ElementTree.fromstring(text.encode())
    assert schema_errors(root) == []
    assert root.find(".//failure") is not None


def test_a_study_without_gates_or_models_is_an_empty_suite() -> None:
    empty = pl.DataFrame()
    root = ElementTree.fromstring(build_junit(ReportInput("s", [], empty, empty, empty, empty, {})).encode())
    assert schema_errors(root) == [] and root[0].get("tests") == "0"


def test_for_readers_that_show_no_html_what_is_folded_stands_open_below_titles_that_are_text() -> None:
    folded, opened = Comment(longest=2_200), Comment(longest=2_200, opened=True)
    for comment in (folded, opened):
        comment.add("# a")
        comment.fold("b < *c*", ["| d |", ""])
        comment.fold("too _long", ["x" * 200])
    note = "Left out here, to fit a comment; all of it is in report.html:\n\n- too \\_long\n"
    assert opened.text() == f"# a\n\n## b &lt; \\*c\\*\n\n| d |\n\n{note}"
    assert folded.text() == f"# a\n\n<details>\n<summary>b &lt; *c*</summary>\n\n| d |\n\n</details>\n\n{note}"
