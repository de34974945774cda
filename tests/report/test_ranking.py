"""Candidates are ranked by the stated rule, and the front is that of the points."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from indexscope.analysis.leaks import marked
from indexscope.analysis.report import ReportInput, build_json, render, verdict
from indexscope.analysis.report.markdown_report import build_markdown
from indexscope.analysis.report.ranking import ranking
from indexscope.analysis.report.warnings import warnings
from tests.report.fixtures import COMPARED, judged, report

Candidate = tuple[float, float, float, float, float]
#: nll difference and half-width, recall difference and half-width, FLOPs; the baseline has 2 nats, 0.7 and 100.
PLANTED: dict[str, Candidate] = {
    "open": (0.0, 0.05, 0.0, 0.001, 10.0),
    "kept dear": (0.001, 0.002, 0.0, 0.001, 80.0),
    "lost": (0.5, 0.1, 0.0, 0.001, 5.0),
    "kept cheap": (0.002, 0.002, 0.0, 0.001, 40.0),
    "kept cheap, better": (-0.3, 0.1, 0.0, 0.001, 40.0),
    "void": (-0.4, 0.1, 0.1, 0.01, 1.0),
}


BASE = {"nll": 2.0, "selection_recall": 0.7, "relative_cost": 100.0}


def study(planted: dict[str, Candidate] = PLANTED, failed: tuple[str, ...] = ("void",)) -> ReportInput:
    """A report of just these numbers."""
    rows: list[dict[str, Any]] = []
    for name, (nll, nll_half, recall, recall_half, flops) in planted.items():
        values = (
            ("nll", nll, nll_half),
            ("selection_recall", recall, recall_half),
            ("relative_cost", flops - 100, None),
        )
        for metric, difference, half in values:
            own = {"candidate": name, "metric": metric, "baseline": BASE[metric], "difference": difference}
            if half is not None:
                own |= {"ci_low": difference - half, "ci_high": difference + half, "n": 64}
            rows.append(own | {"unit": "", "value": BASE[metric] + difference})
    given = report(candidates=tuple(planted), audit_failed=failed, gates=False)
    compared = judged(pl.DataFrame(rows, schema={name: given.comparisons.schema[name] for name in COMPARED}))
    values_of = {"model": pl.col("candidate"), "metric": pl.col("metric"), "value": pl.col("value")}
    base = pl.DataFrame({"model": "baseline", "metric": list(BASE), "value": list(BASE.values())})
    return replace(
        given,
        models=[replace(page, analyses={}) for page in given.models],
        comparisons=compared,
        metrics=pl.concat([base, compared.select(**values_of)]),
        lengths=pl.DataFrame(),
    )


def test_quality_goes_before_cost_and_cost_before_loss() -> None:
    found = ranking(study())
    assert found["candidate"].to_list() == [
        "kept cheap, better", "kept cheap", "kept dear", "open", "lost", "void",
    ]  # fmt: skip
    assert found["rank"].to_list() == [1, 2, 3, 4, 5, 6]
    assert found["quality"].to_list() == ["kept", "kept", "kept", "open", "lost", "void"]
    assert found["cost"].to_list() == pytest.approx([0.4, 0.4, 0.8, 0.1, 0.05, 0.01])


def test_the_front_is_that_of_cost_and_each_quality() -> None:
    planted = {
        "a": (0.1, 0.01, -0.1, 0.01, 50.0),
        "b": (0.2, 0.01, 0.1, 0.01, 60.0),
        "c": (-0.1, 0.01, 0.0, 0.01, 20.0),
    }
    rows = {row["candidate"]: row for row in ranking(study(planted, ())).iter_rows(named=True)}
    # c is the cheapest and has the least loss; b alone has a higher recall.
    assert {name: row["nll_front"] for name, row in rows.items()} == {"a": False, "b": False, "c": True}
    assert {name: row["recall_front"] for name, row in rows.items()} == {"a": False, "b": True, "c": True}


def test_the_ranking_is_in_every_file_in_the_same_order() -> None:
    given = study()
    files, data = render(given), build_json(given)
    names = [row["candidate"] for row in data["ranking"]]
    assert names == ranking(given)["candidate"].to_list()
    assert set(data["ranking"][0]) == set(ranking(given).columns)
    page = files["report.html"]
    table = page[page.index('<table id="ranking">') : page.index("</table>", page.index('<table id="ranking">'))]
    shown = [marked(name, name == "void") for name in names]
    places = [table.index(f"<bdi>{name}</bdi>") for name in shown]
    assert places == sorted(places)
    lines = [line for line in build_markdown(given).splitlines() if re.match(r"\| \d \|", line)]
    assert [line.split(" | ")[1] for line in lines] == shown
    assert "Ordered by quality, then cost, then loss." in table and "Ordered by quality" in files["report.md"]


def test_one_candidate_is_not_ranked_on_the_page() -> None:
    given = study({"only": (0.0, 0.01, 0.0, 0.01, 50.0)}, ())
    assert 'id="ranking"' not in render(given)["report.html"]
    assert "| rank |" not in build_markdown(given)


def test_a_study_that_could_not_have_told_says_so_and_what_would() -> None:
    found = warnings(study({"noisy": (0.0, 0.05, 0.0, 0.001, 50.0)}, ()))
    (warning,) = (one for one in found if one.kind == "small")
    # Half-width 0.05 is a standard error of 0.025: 2.8 of them are 0.07 nats, 7 times the margin of 0.01.
    assert "detects 0.07, margin 0.01" in warning.text
    assert "About 3,100 samples would detect the margin" in warning.text  # 64 x 49 = 3136
    assert warning.text in verdict(study({"noisy": (0.0, 0.05, 0.0, 0.001, 50.0)}, ())).sentences


@pytest.mark.parametrize("planted", [(0.0, 0.005, 0.0, 0.001, 50.0), (0.5, 0.05, 0.0, 0.001, 50.0)])
def test_a_study_that_settled_it_was_not_too_small(planted: Candidate) -> None:
    assert not [one for one in warnings(study({"clear": planted}, ())) if one.kind == "small"]


def test_equivalence_is_a_level_and_inconclusive_is_not() -> None:
    same = verdict(study({"same": (0.0, 0.005, 0.0, 0.001, 100.0)}, ()))
    assert same.level == "equivalent"
    assert "next-token prediction equivalent within the margin" in same.headline
    assert any("90\u202f% CI" in text and "margin of ±0.01" in text for text in same.sentences)
    unclear = verdict(study({"unclear": (0.0, 0.05, 0.0, 0.001, 100.0)}, ()))
    assert unclear.level == "unchanged" and "no detectable difference in next-token" in unclear.headline
    assert "next-token prediction equivalent" not in unclear.headline


def test_a_difference_that_does_not_outlast_the_correction_has_no_vote() -> None:
    """t = 2.1 on its own is below 5 %, and among two headline metrics it is not."""
    given = study({"chance": (0.0525, 0.05, 0.0, 0.05, 100.0)}, ())
    row = given.comparisons.filter(pl.col("metric") == "nll").row(0, named=True)
    assert row["better"] is False and row["p"] > 0.025 and row["corrected"] is False
    words = verdict(given)
    assert words.level == "unchanged"
    assert any("does not outlast the correction" in text for text in words.sentences)
