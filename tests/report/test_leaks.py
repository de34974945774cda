"""A model that leaks is called so wherever its numbers stand, and nothing is concluded from them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from indexscope.analysis.candidates.forest_figures import forest
from indexscope.analysis.comparison.fronts import model_front
from indexscope.analysis.diff.rows import diff
from indexscope.analysis.diff.rules import check_rules
from indexscope.analysis.history.numbers import kept
from indexscope.analysis.history.timeline import stretches
from indexscope.analysis.history.trends import trend
from indexscope.analysis.leaks import marked
from indexscope.analysis.plots.svg import to_svg
from indexscope.analysis.report import build_json, render, verdict
from indexscope.analysis.report.difference import blocks, markdown_difference, reading
from indexscope.analysis.report.history_rows import Series, cell, change_text, judged, point_json, sign
from indexscope.analysis.report.panelled import study_pictures
from indexscope.analysis.report.ranking import ranking
from tests.report.fixtures import bare, report
from tests.report.histories import numbers, run

CANDIDATES = ("light", "half")


@cache
def files(leaking: str) -> dict[str, str]:
    return render(bare(report(candidates=CANDIDATES, audit_failed=(leaking,) if leaking else ())), [])


def tables(text: str) -> str:
    """The Markdown's titles, headings and tables: what its sentences and gates say is left out."""
    return "\n".join(
        line for line in text.splitlines() if line.startswith(("|", "#", "<summary")) and "recall is kept" not in line
    )


@pytest.mark.parametrize("leaking", ["light", "baseline"])
def test_in_no_table_is_a_leaking_model_named_without_the_word(leaking: str) -> None:
    page, text = files(leaking)["report.html"], tables(files(leaking)["report.md"])
    assert f"<bdi>{leaking}</bdi>" not in page and page.count(f"<bdi>{leaking} (leaks)</bdi>") > 5
    assert f"{leaking} (leaks)" in text
    for said in ("python-stdlib, baseline and light", "against the baseline"):
        text = text.replace(said, "")
    role = "candidate" if leaking == "light" else "baseline"
    text = text.replace("| baseline | deepseek", "")
    assert re.search(rf"\b{leaking}\b(?! \(leaks\))", text) is None
    assert f"| {role} (leaks) |" in text and f">{role} (leaks)</th>" in page
    assert "<bdi>half</bdi>" in page and "half (leaks)" not in page + text


def test_without_a_leak_nothing_is_marked() -> None:
    for name, text in files("").items():
        assert "(leaks)" not in text and "leaks, not judged" not in text, name
    data = json.loads(files("")["report.json"])
    assert not any(row["leaks"] for table in ("models", "metrics", "output_divergence") for row in data[table])


@pytest.mark.parametrize(("leaking", "void"), [("light", {"light"}), ("baseline", {"light", "half"})])
def test_machines_read_which_numbers_leak_and_no_verdict_on_them(leaking: str, void: set[str]) -> None:
    data = json.loads(files(leaking)["report.json"])
    for table, key in (("models", "name"), ("metrics", "model"), ("output_divergence", "model")):
        assert {row[key] for row in data[table] if row["leaks"]} <= {leaking}, table
    assert all(row["leaks"] for row in data["metrics"] if row["model"] == leaking)
    for row in data["comparisons"] + data["by_length"]:
        assert (row["verdict"] == "leaks") == (row["candidate"] in void)
        assert row["candidate"] not in void or row["better"] is row["no_worse"] is row["corrected"] is None
    assert {row["candidate"] for row in data["ranking"] if row["quality"] == "void"} == void
    assert data["verdict"]["level"] == "none" and leaking in data["verdict"]["headline"]


@pytest.mark.parametrize("leaking", ["light", "baseline"])
def test_a_difference_from_what_leaks_is_read_as_leaks(leaking: str) -> None:
    page, text = files(leaking)["report.html"], files(leaking)["report.md"]
    start = page.index('id="comparison-1"')
    readings = re.findall(r'<td class="text reading ([a-z]+)-text">', page[start : page.index('id="comparison-2"')])
    assert readings and set(readings) == {"leaks"}
    assert "leaks, not judged" in text and f"not judged, since {leaking} leaks." in text


def test_a_leaking_model_throws_no_other_off_the_front() -> None:
    given = report(candidates=CANDIDATES, audit_failed=("light",))
    seer = (pl.col("model") == "light") & pl.col("metric").is_in(["nll", "relative_cost"])
    given = replace(given, metrics=given.metrics.with_columns(value=pl.when(seer).then(0.0).otherwise("value")))
    assert model_front(given.metrics, given.names, "nll") == {"baseline": False, "light": True, "half": False}
    rows = {row["candidate"]: row for row in ranking(given).iter_rows(named=True)}
    assert rows["light"]["nll_front"] is None and rows["half"]["nll_front"] is True


def test_figures_name_and_mark_what_leaks() -> None:
    given = bare(report(audit_failed=("light",)))
    drawn = {picture.identifier: picture.svg for picture in study_pictures(given)}
    assert all("light (leaks)" in drawn[f"study-{name}"] for name in ("key-numbers", "tradeoff"))
    figure = forest(given.comparisons, ["light"])
    assert figure is not None and "leaks, not judged" in to_svg(figure, "f", "t")


@pytest.mark.parametrize(("in_a", "in_b", "leaks"), [(True, False, "a"), (False, True, "b"), (True, True, "both")])
def test_a_difference_from_a_model_that_leaks_is_not_judged_and_says_which(in_a: bool, in_b: bool, leaks: str) -> None:
    sides = [
        build_json(bare(report(candidates=(), audit_failed=("baseline",) if leak else (), shift=0.5, seed=seed)))
        for seed, leak in enumerate((in_a, in_b))
    ]
    sides[1]["metrics"] = [row | {"value": 0.01, "ci_low": 0.009, "ci_high": 0.011} for row in sides[1]["metrics"]]
    frame = diff(*sides)
    assert frame["leaks"].unique().to_list() == [leaks]
    assert frame["better"].is_null().all() and {reading(row)[0] for row in frame.iter_rows(named=True)} == {"leaks"}
    (block,) = blocks(frame)
    names = [marked("baseline", leak) for leak in (in_a, in_b)]
    assert block.heading == (" → ".join(names) if names[0] != names[1] else names[0]) + " (baseline)"
    text = markdown_difference("x", [], [], [block], [], "CI")
    assert f"### {block.heading}" in text and "leaks, not judged" in text
    # A build fails on what cannot be judged, whatever the rule; an older report says by its audit alone that it leaks.
    assert all(outcome.fails and not outcome.holds for outcome in check_rules(["nll > 99"], frame))
    for side in sides:
        side["models"] = [{key: value for key, value in row.items() if key != "leaks"} for row in side["models"]]
    assert_frame_equal(diff(*sides), frame)


def test_a_history_marks_the_runs_in_which_a_model_leaks_and_judges_no_step_to_or_from_them() -> None:
    leaky = [numbers(recall) | ({"leaks": ["light"]} if recall > 0.85 else {}) for recall in (0.7, 0.9, 0.71, 0.8)]
    history = stretches([run(day, f"r{day}", kept) for day, kept in enumerate(leaky, 1)])
    for metric in ("selection_recall", "selection_recall.difference"):
        points = trend(history, "light", metric)
        assert [point.leaks for point in points] == [False, True, False, False]
        assert [point_json(Series("light", metric, "share", {}), point)["leaks"] for point in points][1]
        kinds = [None if (judgement := judged(point)) is None else judgement.kind for point in points]
        assert kinds == [None, "leaks", "leaks", "better"]
        shown = cell(points[1])
        assert shown is not None and shown.value.endswith(" (leaks)") and sign(shown) == ""
    assert not any(point.leaks for point in trend(history, "base", "selection_recall"))
    assert "light leaks" in change_text(history[1]) and "leaks" not in change_text(history[2])


def test_what_is_kept_of_a_report_for_good_names_what_leaks() -> None:
    assert kept(json.loads(files("light")["report.json"]))["leaks"] == ["light"]
    assert "leaks" not in kept(json.loads(files("")["report.json"]))


def test_a_leaking_model_on_its_own_is_marked_in_the_sentence_that_describes_it() -> None:
    words = verdict(report(candidates=(), audit_failed=("baseline",)))
    assert any(sentence.startswith("baseline (leaks): ") for sentence in words.sentences)
    assert words.headline.startswith("Do not use these numbers")
