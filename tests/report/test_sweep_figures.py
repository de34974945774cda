"""The figure of a sweep: every point with its kind, between the dense model and the best choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from indexscope.analysis.candidates.panel import across
from indexscope.analysis.candidates.sweep_figures import sweep
from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.report import ReportInput
from indexscope.analysis.report.kinds import Kind, kinds
from tests.report.fixtures import report

#: Cost and loss of each candidate.
PLANTED = {
    "h4-d64 k32": (0.30, 0.09), "h4-d64 k64": (0.36, 0.04), "h4-d64 k128": (0.48, 0.015),
    "h2-d32 k32": (0.16, 0.15), "h2-d32 k64": (0.22, 0.08), "h2-d32 k128": (0.34, 0.03),
    "h4-d64 k64 every 2nd": (0.24, 0.07), "h2-d32 k64 every 2nd": (0.17, 0.13),
    "h4-d64 k64 at 50.0 % attention": (0.18, 0.045),
    "oracle k32": (0.06, 0.04), "oracle k64": (0.12, 0.02), "oracle k128": (0.24, 0.005),
    "window k64": (0.12, 0.45), "random k64": (0.12, 3.6),
}  # fmt: skip


def told(name: str) -> dict[str, Any]:
    """What the study says of a candidate."""
    size, _, k = name.partition(" k")
    keys = {"default": int(k.split()[0])}
    if size in ("oracle", "window", "random"):
        selector = {"oracle": None, "recent": None, "random": None, "window": None, size: {}}
        return {"name": name, "indexer": "", "edit": {"share": "", "topk": keys, "selector": selector}}
    edit = {"share": "FSFS", "topk": {}} if "every" in name else None
    if " at " in name:
        edit = {"share": "FFSF", "topk": {"0": 32, "1": 48}}
    return {"name": name, "indexer": f"fitted/{size}", "edit": edit}


def swept() -> ReportInput:
    """A report of the planted sweep, dense at cost 1."""
    given = report(candidates=tuple(PLANTED), dense=("baseline",))

    def planted(metric: str, place: int) -> tuple[pl.Expr, dict[str, float]]:
        values = {name: one[place] for name, one in PLANTED.items()}
        wanted = (pl.col("metric") == metric) & pl.col("layer").is_null()
        return wanted, values

    comparisons = given.comparisons
    wanted, values = planted("nll", 1)
    new = pl.col("candidate").replace_strict(values, return_dtype=pl.Float64)
    comparisons = comparisons.with_columns(
        difference=pl.when(wanted).then(new).otherwise("difference"),
        ci_low=pl.when(wanted).then(new - 0.004).otherwise("ci_low"),
        ci_high=pl.when(wanted).then(new + 0.006).otherwise("ci_high"),
    )
    wanted, values = planted("relative_cost", 0)
    paid = [
        {**row, "value": values[row["candidate"]], "baseline": 1.0}
        for row in comparisons.filter((pl.col("metric") == "nll") & pl.col("layer").is_null()).iter_rows(named=True)
    ]
    paid = [{**row, "metric": "relative_cost", "difference": row["value"] - 1.0} for row in paid]
    others = comparisons.filter(~((pl.col("metric") == "relative_cost") & pl.col("layer").is_null()))
    comparisons = pl.concat([others, pl.DataFrame(paid, schema=comparisons.schema)])
    own = {"baseline": (1.0, 0.0), **PLANTED}
    made = [
        {"model": name, "metric": metric, "layer": None, "value": 2.0 * (metric == "nll") + one[place], "unit": ""}
        for name, one in own.items()
        for place, metric in ((0, "relative_cost"), (1, "nll"))
    ]
    kept = given.metrics.filter(~(pl.col("metric").is_in(["relative_cost", "nll"]) & pl.col("layer").is_null()))
    metrics = pl.concat([kept, pl.DataFrame(made).cast({"layer": pl.Int32})], how="diagonal_relaxed")
    pages = [
        replace(page, facts={**page.facts, "index_topk": int(page.name.split(" k")[1].split()[0])})
        if " k" in page.name
        else replace(page, facts={**page.facts, "index_topk": None, "indexer_heads": None})
        for page in given.models
    ]
    settings = {"baseline": {"name": "baseline"}, "candidates": [told(name) for name in PLANTED]}
    provenance = {**given.provenance, "settings": settings}
    return replace(given, models=pages, comparisons=comparisons, metrics=metrics, provenance=provenance)


def drawn(given: ReportInput) -> Drawing:
    (figure,) = [one.figure for one in across(given) if one.name == "sweep"]
    assert isinstance(figure, Drawing)
    return figure


def test_kinds_are_told_by_indexer_shared_layers_and_edit() -> None:
    found = kinds(swept())
    assert found["baseline"] == Kind("dense")
    assert found["h2-d32 k128"] == Kind("fitted", "h2-d32", "", 128)
    assert found["h4-d64 k64 every 2nd"] == Kind("fitted", "h4-d64", "2 of 4 layers select", 64)
    assert found["h4-d64 k64 at 50.0 % attention"] == Kind("fitted", "h4-d64", "edited", None)
    assert found["oracle k32"] == Kind("oracle", topk=32)
    assert found["random k64"].group == found["window k64"].group == "other"


def test_every_model_of_a_sweep_is_a_point_with_the_dense_model_at_nothing_and_full_cost() -> None:
    figure = drawn(swept())
    rows = {row["model"]: row for row in figure.data.iter_rows(named=True)}
    assert rows.keys() == {"baseline", *PLANTED}
    assert (rows["baseline"]["cost"], rows["baseline"]["difference"], rows["baseline"]["kind"]) == (1.0, 0.0, "dense")
    for name, (cost, loss) in PLANTED.items():
        assert (rows[name]["cost"], rows[name]["difference"]) == pytest.approx((cost, loss)), name
    assert rows["h2-d32 k64 every 2nd"]["layers"] == "2 of 4 layers select"
    assert rows["h4-d64 k64"]["layers"] == "as fitted" and rows["oracle k64"]["layers"] is None


def test_the_best_choice_of_every_number_of_keys_is_a_limit_and_no_rival() -> None:
    figure = drawn(swept())
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    oracle = lines["oracle: the best choice"]
    assert list(zip(*oracle.get_data(), strict=True)) == [(0.06, 0.04), (0.12, 0.02), (0.24, 0.005)]
    (front,) = [line for line in figure.axes[0].lines if line.get_linestyle() == "--" and line is not oracle]
    # cheapest first: the plain window, then fitted ones, an edit, and the dense model
    assert front.get_xdata().tolist() == [0.12, 0.16, 0.17, 0.18, 0.34, 0.48, 1.0]


def test_what_is_far_worse_is_an_arrow_at_the_edge_and_squeezes_nothing() -> None:
    figure = drawn(swept())
    axes = figure.axes[0]
    assert axes.get_ylim()[1] < 0.2
    arrows = [line.get_data() for line in axes.lines if line.get_marker() == "^" and len(line.get_xdata()) == 1]
    assert [(x.tolist(), y.tolist()) for x, y in map(tuple, arrows)] == [([0.12], [axes.get_ylim()[1]])] * 2
    (caption,) = [one.caption for one in across(swept()) if one.name == "sweep"]
    assert caption.endswith("Arrows, beyond the axis: window k64 (+0.45), random k64 (+3.6).")


def test_colours_are_sizes_shapes_are_layers_and_numbers_are_keys() -> None:
    figure = drawn(swept())
    axes = figure.axes[0]
    handles, labels = axes.get_legend_handles_labels()
    assert labels == [
        "oracle: the best choice", "h4-d64", "h2-d32", "as fitted", "2 of 4 layers select", "edited"
    ]  # fmt: skip
    assert len({handle.get_color() for handle in handles[1:3]}) == 2
    assert len({handle.get_marker() for handle in handles[3:]}) == 3
    assert {"32", "64", "128", "baseline"} <= {text.get_text() for text in axes.texts}


def test_a_study_of_one_fitted_indexer_or_none_keeps_the_plain_figure() -> None:
    given = report(candidates=("light", "other"))
    assert kinds(given) == {}
    assert [one.name for one in across(given)] == ["key-numbers", "tradeoff"]
    assert sweep(given.comparisons, given.metrics, {}, "baseline") is None


def test_models_that_leak_are_no_points() -> None:
    given = swept()
    causality = given.causality.with_columns(passed=pl.col("model") != "h4-d64 k64")
    figure = drawn(replace(given, causality=causality))
    assert "h4-d64 k64" not in figure.data["model"].to_list()
