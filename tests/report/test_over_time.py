"""The section on a study's history: what is planted is told, and a report without history has no trace of it."""

from __future__ import annotations

import json
import re

import pytest

from indexscope.analysis.history.gates import breaks
from indexscope.analysis.history.numbers import kept
from indexscope.analysis.history.timeline import stretches
from indexscope.analysis.history.trends import trend
from indexscope.analysis.plots.address import as_image
from indexscope.analysis.report import render
from indexscope.analysis.report.history_rows import break_text, cell, sign
from indexscope.analysis.report.over_time import LINK, PLACE, SHOWN, picture, with_history
from tests.report.fixtures import report
from tests.report.histories import broken_and_mended, numbers, run

HOSTILE = "</script><script>alert(1)</script> *x* | [y](http://z)"


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return render(report(layers=2, heads=2))


def test_one_result_leaves_no_section_and_no_place_for_one(files: dict[str, str]) -> None:
    assert all(PLACE in files[name] for name in ("report.html", "report.md")) and LINK in files["report.html"]
    for history in ([], broken_and_mended()[:1]):
        published = with_history(files, history, picture(history))
        assert published.keys() == files.keys()
        assert not any("over time" in text.lower() for text in published.values())
        assert "history" not in json.loads(published["report.json"])
        assert published["report.html"].count("\n") == files["report.html"].count("\n") - 2
        assert "\n\n\n" not in published["report.md"]


def test_the_section_tells_the_break_its_cause_and_its_mending(files: dict[str, str]) -> None:
    published = with_history(files, broken_and_mended(), picture(broken_and_mended()))
    told = "checkpoint of light changed aaaaaaaa → bbbbbbbb"
    assert f"broke at run 5, 2026-01-05 03:00 (value −0.095; {told}), mended at run 8, 2026-01-08 03:00" in (
        re.sub(r"\\", "", published["report.md"])
    )
    assert '<a href="#over-time">' in published["report.html"]
    section = published["report.html"].partition('<section id="over-time"')[2].partition("</section>")[0]
    assert section.count("<tr>") == 11 and section.count("✗ 0 of 1 passed") == 3
    assert told in section and "a gate broke" in section and "bound of a gate" in section
    history = json.loads(published["report.json"])["history"]
    assert [row["number"] for row in history["runs"]] == list(range(1, 11))
    (one,) = history["breaks"]
    assert (one["broke"], one["mended"], one["since_first"]) == (5, 8, False)
    fifth = next(
        entry
        for entry in history["runs"][4]["metrics"]
        if (entry["model"], entry["metric"]) == ("light", "selection_recall")
    )
    assert fifth["value"] == pytest.approx(0.705)
    assert fifth["step"]["difference"] == pytest.approx(0.705 - 0.804) and fifth["step"]["reading"] == "worse"
    assert with_history(files, broken_and_mended(), picture(broken_and_mended())) == published, (
        "the same history gives the same bytes"
    )


def test_marks_say_what_the_interval_allows() -> None:
    rows = stretches([run(day, str(day), numbers(recall)) for day, recall in enumerate((0.8, 0.8, 0.805, 0.7, 0.8), 1)])
    marks = [sign(cell(point)) for point in trend(rows, "light", "selection_recall")]
    assert marks == ["", "=", "≈", "↓", "↑"]


def test_a_gate_that_never_passed_and_one_mended_by_another_rule_are_told_so() -> None:
    rows = stretches(
        [
            run(1, "1", numbers(0.7, {"gate": False})),
            run(2, "2", numbers(0.7, {"gate": True}, rule="selection_recall.difference >= -0.5")),
            run(3, "3", None, problem="its report was collected"),
            run(4, "4", numbers(0.1, {"gate": False})),
        ]
    )
    first, second = map(break_text, breaks(rows))
    assert first.startswith("has not passed since the first run on record, 2026-01-01 03:00 (value −0.1)")
    assert first.endswith("mended at run 2, 2026-01-02 03:00 under another rule, selection_recall.difference >= -0.5")
    assert "1 results before it are lost" not in second and "1 result before it is lost" in second
    assert second.endswith("and is still broken")


def test_hostile_names_are_text_and_a_long_history_is_thinned_with_a_word(files: dict[str, str]) -> None:
    kept_ = numbers(0.8, {HOSTILE: True}, (HOSTILE,))
    bad = numbers(0.7, {HOSTILE: False}, (HOSTILE,))
    runs = [run(day, str(day), bad if day == 3 else kept_, f"checkpoint of {HOSTILE} changed") for day in range(1, 41)]
    rows = stretches(runs)
    published = with_history(files, rows, picture(rows))
    html = published["report.html"]
    assert html.count("<script>") == files["report.html"].count("<script>") == 1
    assert f"The {40 - SHOWN} results before these are left out" in html
    assert "[y](http://z)" not in published["report.md"] and "<script>" not in published["report.md"]
    section = published["report.md"].partition("## Over time")[2].partition("</details>")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    assert len(table) == SHOWN + 2
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


def test_the_picture_is_an_image_of_its_own() -> None:
    found = picture(broken_and_mended())
    assert found is not None
    assert as_image(found.svg).startswith("data:image/svg+xml;base64,")
    assert picture(broken_and_mended()[:1]) is None


def test_what_is_kept_of_a_report_is_over_all_layers_and_nothing_is_lost() -> None:
    given = json.loads(render(report(layers=2, heads=2))["report.json"])
    found = kept(given)
    overall = [row for row in given["metrics"] if row["layer"] is None]
    assert len(found["metrics"]) == len(overall) > 20
    assert found["metrics"][0] == [
        overall[0][key] for key in ("model", "name", "unit", "value", "ci_low", "ci_high", "n")
    ]
    assert [row[0] for row in found["gates"]] == [gate["name"] for gate in given["gates"]]
    assert found["models"][0][:2] == ["baseline", "baseline"]
