"""What is said and drawn of the key budget of all models."""

from __future__ import annotations

import polars as pl
import pytest

from indexscope.analysis.key_budget import KeyBudgetSettings
from indexscope.analysis.key_budget import run as key_budget
from indexscope.analysis.key_budget.answer import ANSWER
from indexscope.analysis.key_budget.panel import PANEL, across
from indexscope.analysis.report.inputs import ReportInput
from tests.analysis.key_budget.test_budget_analysis import close_up
from tests.report.studies import rings, study


def given(**scored: bool) -> ReportInput:
    """Models whose recall at k is k / 16 in the indexer's order, and its square root in the best."""
    found = {
        name: key_budget.run(close_up([9, 13, 11], scored=selects), KeyBudgetSettings(resamples=50))
        for name, selects in scored.items()
    }
    dense = pl.col("k").is_not_null() | (pl.col("method") != "model")
    for name, selects in scored.items():
        if not selects:
            found[name]["budgets"] = found[name]["budgets"].with_columns(
                k=pl.when(pl.col("method") == "model").then(None).otherwise("k")
            ).filter(dense)  # fmt: skip
    return study({name: {"key_budget": frames} for name, frames in found.items()})


def test_the_keys_of_one_k_for_all_are_told_beside_those_of_now() -> None:
    (sentence,) = ANSWER.say(given(base=True, light=True))
    assert sentence.startswith("Keeping 95\u202f% of the attention with one k for all queries takes ")
    assert sentence.endswith(" in light, against 8 now.") and "keys a query on average in base" in sentence


def test_of_a_dense_model_the_least_that_any_selection_needs_is_told() -> None:
    asked = given(base=False)
    (sentence,) = ANSWER.say(asked)
    assert "no selection could keep as much with fewer" in sentence and "now" not in sentence
    (picture,) = across(asked)
    assert set(picture.figure.data.columns) == {"k", "oracle_recall", "ci_low", "ci_high", "n"}
    assert "Rings" not in picture.caption
    (listed,) = PANEL.tables(asked.models[0].analyses["key_budget"])
    assert listed.columns == ("layer", *(f"best keys for {share}\u202f%" for share in (90, 95, 99)))
    assert ANSWER.say(study({"base": {}})) == []


def test_each_model_has_both_orders_and_its_own_k_ringed_on_its_line() -> None:
    figure = across(given(base=True, light=True))[0].figure
    rows = figure.data
    light = rows.filter(pl.col("series") == "light, indexer's order")
    assert light["indexer_recall"].to_list() == pytest.approx([min(1.0, k / 16) for k in light["k"]])
    best = rows.filter(pl.col("series") == "light, best order")
    assert best["oracle_recall"].to_list() == pytest.approx([min(1.0, k / 16) ** 0.5 for k in best["k"]])
    (axes,) = figure.axes
    assert rings(axes) == [pytest.approx((8, 0.5))] * 2 and "(log)" in axes.get_xlabel()


def test_a_layer_has_its_own_curves() -> None:
    frames = key_budget.run(close_up([9, 13], layers=2), KeyBudgetSettings(resamples=50))
    (chart,) = (chart for chart in PANEL.charts(frames) if chart.x == "place")
    own = chart.frame.filter((pl.col("layer") == 1) & (pl.col("order") == "indexer's order"))
    assert dict(zip(own["k"], own["recall"], strict=True))["8"] == pytest.approx(0.5)
