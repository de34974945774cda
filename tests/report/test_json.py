"""report.json: its keys are those documented, its values are those of the frames."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.report import ReportInput, build_json, dump, render
from indexscope.analysis.report.inputs import COMPARISONS_SCHEMA
from tests.report.fixtures import Kind, rendered, report

TOP = ["schema_version", "study", "verdict", "warnings", "models", "definitions", "ranking", "metrics", "comparisons"]
TOP += [
    "by_length",
    "evidence_cells",
    "answer_outcomes",
    "evidence_keys",
    "at_lengths",
    "compared_at_lengths",
    "series",
    "series_points",
    "series_changes",
    "series_settled",
    "parity_where",
    "parity_distances",
    "parity_samples",
    "output_divergence",
    "output_divergence_by",
    "evidence_changes",
    "recommendations",
    "recommendation_options",
    "gates",
    "causality",
    "provenance",
]
COMPARISON = [
    "candidate",
    "metric",
    "layer",
    "unit",
    "baseline",
    "value",
    "difference",
    "ci_low",
    "ci_high",
    "n",
    "better",
    "verdict",
    "no_worse",
    "margin",
    "p_adjusted",
    "corrected",
    "n_effective",
    "standard_error",
    "effect",
    "p",
    "mde",
    "tost_low",
    "tost_high",
]


def test_keys_are_exactly_the_documented_ones() -> None:
    data = build_json(report())
    assert list(data) == TOP
    assert set(data["verdict"]) == {"level", "headline", "sentences"}
    assert set(data["models"][0]) == {"name", "role", "fingerprint", "family", "parameters", "indexer", "leaks"}
    assert set(data["models"][0]["indexer"]) == {"heads", "dim", "topk"}
    assert set(data["definitions"][0]) == {"name", "unit", "better", "kind", "family", "meaning", "formula"}
    assert set(data["metrics"][0]) == {"model", "name", "layer", "value", "unit", "ci_low", "ci_high", "n", "leaks"}
    assert set(data["comparisons"][0]) == set(COMPARISON)
    assert set(data["by_length"][0]) == {*COMPARISON, "length", "kind"} - {"layer"}
    assert set(data["gates"][0]) == {"name", "rule", "candidate", "value", "passed", "layer", "reason"}
    assert set(data["causality"][0]) == {"model", "passed", "max_logit_change", "layer_change"}


def test_every_value_survives_the_file_bit_by_bit() -> None:
    given = report(candidates=("light", "other"))
    data = json.loads(dump(build_json(given)))
    expected = given.metrics.rename({"metric": "name"})
    assert_frame_equal(pl.DataFrame(data["metrics"], schema=expected.schema), expected, check_exact=True)
    comparisons = pl.DataFrame(data["comparisons"], schema=COMPARISONS_SCHEMA)
    assert_frame_equal(comparisons, given.comparisons.select(comparisons.columns), check_exact=True)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_what_is_not_a_number_becomes_null(bad: float | None) -> None:
    given = report()
    broken = given.metrics.with_columns(value=pl.lit(bad, dtype=pl.Float64), ci_low=pl.lit(bad, dtype=pl.Float64))
    text = dump(build_json(replace(given, metrics=broken, provenance={"settings": {"x": bad}})))
    data = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert {row["value"] for row in data["metrics"]} == {None}
    assert data["provenance"]["settings"]["x"] is None


def test_a_dense_model_has_no_indexer_rather_than_one_of_nothing() -> None:
    data = build_json(report(dense=("baseline",), candidates=()))
    assert data["models"][0]["indexer"] is None
    assert data["comparisons"] == []


def test_an_empty_study_is_still_a_report() -> None:
    empty = pl.DataFrame()
    files = render(ReportInput("nothing", [], empty, empty, empty, empty, {}))
    data = json.loads(files["report.json"])
    assert data["models"] == data["metrics"] == data["gates"] == []
    assert "No model was audited" in files["report.html"]


def test_the_same_input_gives_the_same_bytes() -> None:
    kind = Kind(layers=2, heads=2)
    assert render(report(kind)) == rendered(kind)


def test_every_metric_is_defined_as_the_registry_has_it() -> None:
    data = build_json(report())
    rows = {row["name"]: row for row in data["definitions"]}
    assert set(rows) == {row["name"] for row in data["metrics"]}
    for name, row in rows.items():
        metric = REGISTRY[name]
        found = (row["unit"], row["better"], row["meaning"], row["formula"])
        assert found == (metric.unit, metric.better, metric.meaning, metric.formula)
    kinds = {name: rows[name]["kind"] for name in ("nll", "indexer_parameters", "indexer_latency_ms")}
    assert kinds == {"nll": "sample", "indexer_parameters": "count", "indexer_latency_ms": "timing"}
    assert rows["nll"]["family"] == "Quality"
