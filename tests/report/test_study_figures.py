"""The figures over all models: the values that their marks hold, and none where there is nothing to draw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from indexscope.analysis.candidates.key_figures import key_differences, relative_text
from indexscope.analysis.candidates.panel import across
from indexscope.analysis.candidates.tradeoff_figures import quality_against_cost
from indexscope.analysis.conventions import SERVED
from indexscope.analysis.efficiency import panel as efficiency
from indexscope.analysis.efficiency.figures import cost_by_component
from indexscope.analysis.efficiency.reference import THIS
from indexscope.analysis.output_divergence import panel as output_divergence
from indexscope.analysis.parity.figures import agreement
from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.plots.style import look
from indexscope.analysis.plots.svg import to_svg
from indexscope.analysis.recommendations import panel as recommendations
from indexscope.analysis.report import ReportInput
from indexscope.analysis.report.panel import Drawn
from indexscope.analysis.report.panelled import panels
from indexscope.analysis.selection_changes import panel as selection_changes
from indexscope.analysis.stability import panel as stability
from tests.report.answered import advice, changes, variants, with_frames
from tests.report.fixtures import report
from tests.report.panel_frames import with_panels

LOOKS = {"light": look(1), "other": look(2)}


def drawing(drawn: list[Drawn], name: str) -> Drawing:
    (figure,) = [one.figure for one in drawn if one.name == name]
    assert isinstance(figure, Drawing)
    return figure


def row(metric: str, difference: float, margin: float | None, **cells: object) -> dict[str, object]:
    base = {"candidate": "light", "metric": metric, "layer": None, "unit": "nats", "baseline": 2.0, "n": 64}
    base |= {"value": 2.0 + difference, "difference": difference, "margin": margin, "better": None, "verdict": None}
    return base | {"ci_low": difference - 0.005, "ci_high": difference + 0.005, "no_worse": None} | cells


def test_key_numbers_are_in_margins_with_better_to_the_right() -> None:
    rows = [
        row("nll", 0.01, 0.02),
        row("selection_recall", 0.03, 0.02, unit="share"),
        row("indexer_flops", -1.5, None, ci_low=None, ci_high=None),
    ]
    figure = key_differences(pl.DataFrame(rows, infer_schema_length=None), {"light": look(1)})
    assert isinstance(figure, Drawing)
    assert figure.data.filter(pl.col("margins").is_not_null())["margins"].to_list() == pytest.approx([-0.5, 1.5])
    svg = to_svg(figure, "a", "t")
    assert ">+0.0100 nats<" in svg and ">+0.0300<" in svg and ">−75\u202f%<" in svg


def test_a_difference_beyond_the_axis_is_an_arrow_at_its_edge() -> None:
    figure = key_differences(pl.DataFrame([row("nll", 9.0, 0.02)]), {"light": look(1)})
    assert isinstance(figure, Drawing)
    (marks,) = figure.marks
    assert marks.x.tolist() == [-4.0] and marks.rows["margins"].to_list() == [-450.0]
    assert [line.get_marker() for line in figure.axes[0].lines if line.get_marker() == "<" and len(line.get_xdata())]


def test_changes_of_what_has_no_margin_are_relative() -> None:
    cells = {"unit": "ms", "ci_low": None, "ci_high": None}
    assert relative_text({"baseline": 40.0, "difference": 10.0, **cells}) == "+25\u202f%"
    assert relative_text({"baseline": 40.0, "difference": 0.0, **cells}) == "no change"
    assert relative_text({"baseline": 0.0, "difference": 2.0, **cells}) == "+2"


def test_quality_against_cost_is_the_paired_difference_with_the_baseline_at_nothing() -> None:
    given = report(candidates=("light", "other"))
    figure = quality_against_cost(given.comparisons, given.metrics, {"baseline": look(0), **LOOKS})
    assert isinstance(figure, Drawing)
    rows = given.comparisons.filter((pl.col("metric") == "nll") & pl.col("layer").is_null())
    assert figure.data["model"].to_list() == ["baseline", "light", "other"]
    assert figure.data["difference"].to_list() == pytest.approx([0.0, *rows["difference"]])
    assert figure.data["ci_low"].to_list() == [None, *rows["ci_low"]]


def test_dozens_of_candidates_are_all_in_the_tradeoff_and_in_the_trends_of_the_key_numbers() -> None:
    drawn = across(report(candidates=[f"run-{place:02}" for place in range(24)]))
    assert drawing(drawn, "tradeoff").data["model"].n_unique() == 25
    data = drawing(drawn, "key-trends").data
    names = data.filter(pl.col("panel") == "nll")["candidate"].to_list()
    assert names == [f"run-{place:02}" for place in range(24)] and data["panel"].n_unique() == 6
    assert "key-numbers" not in {one.name for one in drawn}


def test_selection_changes_hold_each_candidate_by_layer() -> None:
    given = report(candidates=("light", "other"))
    for name, kept in (("light", 0.9), ("other", 0.8)):
        given = with_frames(given, name, "selection_changes", changes(kept, (0.002, 0.001, 0.003)))
    data = drawing(selection_changes.across(given), "selection-changes").data
    kept = data.filter(pl.col("panel") == "keys of the baseline kept")
    assert kept.filter(pl.col("series") == "other")["value"].to_list() == pytest.approx([0.8, 0.7, 0.6])
    moved = data.filter(pl.col("series") == "light").group_by("panel", maintain_order=True).agg(pl.col("value").first())
    assert moved["value"].to_list() == pytest.approx([0.9, 0.03, 0.02])


def test_divergence_holds_percentiles_and_positions_of_each_candidate() -> None:
    given = report(candidates=("light", "other"))
    data = drawing(output_divergence.across(given), "output-divergence").data
    frame = given.models[1].analyses["output_divergence"]["output_divergence"]
    largest = frame.filter(pl.col("statistic") == "output_kl_max")["value"].item()
    own = data.filter((pl.col("series") == "light") & (pl.col("label") == "largest"))
    assert own["value"].to_list() == [largest]
    assert data.filter(pl.col("statistic") == "output_kl").group_by("series").len()["len"].to_list() == [10, 10]


def test_stability_holds_every_variant_of_every_model() -> None:
    given = with_frames(report(), "light", "stability", variants(0.05))
    given = with_frames(given, "baseline", "stability", variants(0.02))
    data = drawing(stability.across(given), "stable").data.filter(pl.col("variant") == "fp8")
    assert dict(data.select("series", "changed").iter_rows()) == {"baseline": 0.02, "light": 0.05}


def test_what_could_be_taken_away_marks_what_is_recommended() -> None:
    given = with_frames(report(), "light", "recommendations", advice(0.004, 0.003, 0.005))
    figure = drawing(recommendations.across(given), "taken-away")
    assert figure.data.select("saved", "expected_loss", "recommended").rows() == [
        (0.25, 0.004, True),
        (0.6, 0.5, False),
    ]
    rings = [line for line in figure.axes[0].lines if line.get_markersize() > 10]
    assert [list(zip(*line.get_data(), strict=True)) for line in rings] == [[(0.25, 0.004)]]
    assert figure.axes[0].get_ylim()[1] == pytest.approx(0.1)


def test_components_are_drawn_at_the_longest_length_that_all_models_have() -> None:
    rows = {"component": "indexer", "low": None, "high": None, "time_share": 0.5}
    frames = {
        "a": pl.DataFrame(
            [rows | {"length": 8, "ms": 1.0, "peak_bytes": 0}, rows | {"length": 64, "ms": 9.0, "peak_bytes": 0}]
        ),
        "b": pl.DataFrame([rows | {"length": 8, "ms": 2.0, "peak_bytes": 0}]),
    }
    figure = cost_by_component(frames, ["a", "b"])
    assert isinstance(figure, Drawing) and len(figure.axes) == 1, "no memory was measured"
    assert figure.data.select("series", "length", "ms").rows() == [("a", 8, 1.0), ("b", 8, 2.0)]


def test_cost_relative_to_dense_attention_is_of_indexer_and_attention_together() -> None:
    parts = {"indexer": 1.0, "attention": 2.0, "dense_attention": 12.0}
    rows = [
        {"dimensions": THIS, "convention": SERVED.name, "length": length, "component": name, "flops": flops * length}
        for name, flops in parts.items()
        for length in (64, 128)
    ]
    given = with_frames(report(), "light", "efficiency", {"projection": pl.DataFrame(rows)})
    data = drawing(efficiency.across(given), "cost").data
    assert data.filter(pl.col("panel") == "relative to dense attention")["relative"].to_list() == [0.25, 0.25]
    own = data.filter(pl.col("panel").str.starts_with("operations") & (pl.col("series") == "light"))
    assert own["flops"].to_list() == [64.0, 128.0]


def test_agreement_of_dumps_has_a_panel_each_measure_that_any_has() -> None:
    names = ["candidate", "metric", "layer", "value", "unit", "ci_low", "ci_high", "n"]
    rows = [("x", "rows_identical", layer, 1.0 - 0.1 * layer, "share", None, None, 8) for layer in range(3)]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    figure = agreement({"x": frame, "y": frame}, {"x": look(0), "y": look(1)})
    assert isinstance(figure, Drawing) and len(figure.axes) == 1
    assert figure.data.filter(pl.col("series") == "y")["value"].to_list() == pytest.approx([1.0, 0.9, 0.8])
    assert agreement({"x": frame.clear()}, {"x": look(0)}) is None


def mine(given: ReportInput) -> list[str]:
    chapters = ("overview", "costs", "changed", "change", "trust")
    drawn = [one for panel in panels() if panel.chapter in chapters for one in panel.across(given)]
    for one in drawn:
        if one.figure is not None:
            assert "NaN" not in to_svg(one.figure, one.name, one.title), one.name
    return [one.name for one in drawn if one.figure is not None]


def test_a_dense_model_has_its_costs_and_no_empty_figure() -> None:
    given = report(candidates=(), dense=("baseline",))
    assert set(mine(given)) <= {"cost", "components"}


def test_names_are_unique_and_no_more_than_a_study_may_have() -> None:
    given = with_panels(report(candidates=("light", "other")))
    every = [one.name for panel in panels() for one in panel.across(given)]
    assert len(every) == len(set(every))
    assert {"key-numbers", "tradeoff", "cost", "components", "output-divergence", "stable"} <= set(mine(given))


def test_looks_do_not_depend_on_who_lacks_an_analysis() -> None:
    given = report(candidates=("light", "other"))
    only = replace(
        given, models=[replace(page, analyses=page.analyses if page.name == "other" else {}) for page in given.models]
    )
    both, one = (drawing(output_divergence.across(each), "output-divergence") for each in (given, only))
    colours = [
        next(line.get_color() for line in figure.axes[0].lines if line.get_label() == "other") for figure in (both, one)
    ]
    assert colours == [look(2).colour] * 2
    assert np.isfinite(both.data["value"].to_numpy()).all()
