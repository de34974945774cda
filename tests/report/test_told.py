"""What the terminal tells of a report: about ten lines, from the numbers that report.md opens with."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from indexscope.analysis.metrics.headline import HEADLINE, KEY, key_metrics
from indexscope.analysis.recommendations.tables import RECOMMENDATIONS
from indexscope.analysis.report import ReportInput, render
from indexscope.analysis.report.inputs import GATES_SCHEMA
from indexscope.analysis.report.key_numbers import key_numbers
from indexscope.analysis.report.markdown_report import build_markdown
from indexscope.analysis.report.over_time import with_history
from indexscope.analysis.report.told import TOLD, build_told
from indexscope.analysis.report.verdict import verdict
from tests.report.fixtures import bare, report


def advised(given: ReportInput, model: str, change: str) -> ReportInput:
    row = {"rank": 1, "kind": "budget", "change": change, "expected_loss": 0.003, "ci_low": 0.002, "ci_high": 0.004}
    frame = pl.DataFrame([row | {"saving": 0.25}], schema=RECOMMENDATIONS.schema)
    pages = [
        replace(page, analyses={**page.analyses, "recommendations": {"recommendations": frame}})
        if page.name == model
        else page
        for page in given.models
    ]
    return replace(given, models=pages)


def test_about_ten_lines_begin_with_the_verdict_and_end_with_what_to_change() -> None:
    given = advised(report(), "light", "k = 48 instead of 64")
    lines = build_told(given).splitlines()
    assert len(lines) <= 11
    assert lines[0] == verdict(given).headline
    assert lines[1].split() == [
        "next-token",
        "loss",
        "(nats)",
        "1.920",
        "−0.080",
        "(−0.090",
        "to",
        "−0.070)",
        "↓",
        "better",
    ]
    assert lines[-2].startswith(
        "gates: 1 of 3 passed; not passed: recall is kept (selection_recall.difference >= -0.02"
    )
    advice = "k = 48 instead of 64: costs 0.0030 of recall (0.0020 to 0.0040), saves 25"
    assert lines[-1].startswith(f"first change (light): {advice}")
    assert f"**What to change first** (light): {advice}" in build_markdown(given)


def test_an_arrow_says_where_the_value_went_and_the_word_whether_that_is_better() -> None:
    found = {one.label: one for one in key_numbers(report(), "light")}
    assert (found["next-token loss"].difference[0], found["next-token loss"].reading) == ("−", "↓ better")
    assert (found["next-token accuracy"].difference[0], found["next-token accuracy"].reading) == ("−", "↓ worse")
    assert found["output error"].reading == "? inconclusive"
    leaking = key_numbers(report(audit_failed=("light",)), "light")
    assert {one.reading for one in leaking} == {"? leaks, not judged"}


def test_key_numbers_are_headline_metrics_and_others_of_those_fill_in() -> None:
    assert set(KEY) <= set(HEADLINE) and 6 <= len(KEY) <= 8
    assert key_metrics(set(HEADLINE)) == list(KEY)
    for lacking in range(len(HEADLINE)):
        held = HEADLINE[lacking:]
        assert len(key_metrics(held)) == min(len(held), max(6, len(set(KEY) & set(held))))


def test_of_a_dozen_candidates_a_line_each_is_told_and_the_rest_counted() -> None:
    lines = build_told(bare(report(candidates=tuple(f"light {n}" for n in range(12))))).splitlines()
    ranked = [line for line in lines if line.startswith("  ")]
    assert len(lines) <= 11 and len(ranked) == 9 and ranked[-1] == "  and 4 more candidates"
    assert ranked[0].split()[:2] == ["1.", "light"]


@pytest.mark.parametrize("several", [False, True])
def test_no_name_breaks_out_of_its_line(several: bool) -> None:
    name = "x\n\x1b[31mred\x07\rgates: all passed"
    usual = bare(report(candidates=("a", "b") if several else ("a",)))
    gates = pl.DataFrame([(name, name, f"{name} a", 1.0, False, None, name)], schema=GATES_SCHEMA, orient="row")
    given = bare(report(baseline=name, candidates=(f"{name} a", f"{name} b") if several else (f"{name} a",)))
    text = build_told(replace(given, gates=gates, missing={name: name}))
    assert "\x1b" not in text and "\x07" not in text and "\r" not in text
    assert len(text.splitlines()) == len(build_told(usual).splitlines())


def test_it_is_kept_with_the_report_as_it_is() -> None:
    files = render(bare(report()))
    assert files[TOLD] == build_told(bare(report())) == with_history(files, [], None)[TOLD]
