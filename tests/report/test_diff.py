"""diff: models are matched by a stated rule, intervals are honest, and a rule that cannot look does not pass."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from analysis.diff import diff, fail_on
from analysis.report import build_json
from indexscope.errors import IndexscopeError
from tests.report.fixtures import report


def data(**changes: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(json.dumps(build_json(report(**changes))))
    return loaded


def overall(frame: pl.DataFrame, metric: str, role: str = "baseline") -> dict[str, Any]:
    return frame.filter((pl.col("metric") == metric) & pl.col("layer").is_null() & (pl.col("role") == role)).row(
        0, named=True
    )


def test_a_report_does_not_differ_from_itself() -> None:
    frame = diff(data(), data())
    assert frame["difference"].drop_nulls().unique().to_list() == [0.0]
    assert frame["better"].null_count() == frame.height
    assert frame["status"].unique().to_list() == ["both"]


def test_differences_are_b_minus_a_of_the_frames() -> None:
    a = report(candidates=())
    b = replace(a, metrics=a.metrics.with_columns(pl.col("value", "ci_low", "ci_high") * 1.5))
    frame = diff(build_json(a), build_json(b))
    joined = frame.join(a.metrics, on=["metric", "layer"], nulls_equal=True)
    assert joined.height == frame.height == a.metrics.height
    assert joined.select(((pl.col("difference") - pl.col("value") * 0.5).abs() < 1e-9).all()).item()
    assert overall(frame, "nll")["better"] is False
    assert overall(frame, "accuracy")["better"] is True
    assert overall(frame, "attention_entropy")["better"] is None


def test_independent_intervals_are_squared_and_added() -> None:
    a, b = data(candidates=()), data(candidates=())
    for row, value, low, high in ((a["metrics"], 2.0, 1.7, 2.4), (b["metrics"], 1.0, 0.6, 1.3)):
        for entry in row:
            entry.update(value=value, ci_low=low, ci_high=high)
    row = overall(diff(a, b), "nll")
    assert row["interval"] == "independent"
    assert row["ci_low"] == pytest.approx(-1.0 - (0.4**2 + 0.4**2) ** 0.5)
    assert row["ci_high"] == pytest.approx(-1.0 + (0.3**2 + 0.3**2) ** 0.5)
    assert row["better"] is True


def test_a_comparison_of_the_same_two_models_lends_its_paired_interval() -> None:
    study = data()
    baseline, light = study["models"]
    # A run of the baseline's checkpoint under the candidate's name, against the study that compares the two.
    earlier = {**study, "models": [{**baseline, "role": "candidate"}], "comparisons": []}
    found = overall(diff(earlier, study), "nll", "candidate")
    expected = next(row for row in study["comparisons"] if row["metric"] == "nll")
    assert found["interval"] == "paired"
    assert (found["ci_low"], found["ci_high"]) == (expected["ci_low"], expected["ci_high"])
    # Other numbers under the same fingerprints: the comparison is of something else.
    moved = {**earlier, "metrics": [{**row, "value": row["value"] * 1.01} for row in study["metrics"]]}
    assert overall(diff(moved, study), "nll", "candidate")["interval"] == "independent"
    # And where b's model is no candidate of that comparison, there is nothing to lend.
    alone = {**study, "models": [{**light, "role": "baseline"}], "comparisons": []}
    assert overall(diff(study, alone), "nll")["interval"] == "paired"  # study itself compares these two
    assert overall(diff(alone, study), "nll")["interval"] == "independent"


def test_candidates_match_by_name_and_then_in_order() -> None:
    a, b = data(candidates=("x", "keep", "y")), data(candidates=("keep", "z"))
    pairs = diff(a, b).select("model_a", "model_b", "status").unique(maintain_order=True).rows()
    assert pairs == [
        ("baseline", "baseline", "both"),
        ("x", "z", "both"),
        ("keep", "keep", "both"),
        ("y", None, "only in a"),
    ]


def test_dropped_and_added_metrics_are_listed() -> None:
    a, b = data(candidates=()), data(candidates=(), dense=("baseline",))
    dropped = diff(a, b).filter(pl.col("status") == "only in a")
    assert "selection_recall" in dropped["metric"].to_list()
    assert dropped["difference"].null_count() == dropped.height
    assert "selection_recall" in diff(b, a).filter(pl.col("status") == "only in b")["metric"].to_list()


def test_fail_on_returns_the_rows_that_break_the_rule() -> None:
    a, b = data(candidates=()), data(candidates=())
    for entry in b["metrics"]:
        if entry["name"] == "selection_recall":
            entry["value"] -= 0.05
    frame = diff(a, b)
    assert fail_on("recall < -0.01", frame).height == 1
    assert fail_on("recall < -0.06", frame).is_empty()
    assert fail_on("recall.ratio < 95%", frame).height == 1
    assert fail_on("recall.value < 0.67", frame).height == 1


@pytest.mark.parametrize("rule", ["recall < -0.01", "nonsense < 1", "nll <"])
def test_a_rule_that_cannot_be_looked_at_is_an_error(rule: str) -> None:
    dense = data(candidates=(), dense=("baseline",))
    with pytest.raises(IndexscopeError):
        fail_on(rule, diff(dense, dense))


def test_a_broken_report_is_one_clear_error() -> None:
    with pytest.raises(IndexscopeError, match="report b: has no models"):
        diff(data(), {"metrics": []})
