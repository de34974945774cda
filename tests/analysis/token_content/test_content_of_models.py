"""Which kinds of tokens are preferred is told of all models together, and of none where it cannot be told."""

from __future__ import annotations

import math

import polars as pl
import pytest

from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.token_content import TokenContentSettings
from indexscope.analysis.token_content import run as token_content
from indexscope.analysis.token_content.answer import ANSWER
from indexscope.analysis.token_content.panel import PANEL, across
from tests.analysis.token_content.test_collect import planted_study
from tests.report.studies import study


def lifts(**factors: float) -> pl.DataFrame:
    rows = [
        (layer, kind.replace("_", " "), factor, 0.9 * factor, 1.1 * factor, 2.0, 1.9, 2.1, 900.0, 64)
        for layer in (None, 0)
        for kind, factor in factors.items()
    ]
    names = "layer token_class lift ci_low ci_high attention_lift attention_ci_low attention_ci_high selections n"
    return pl.DataFrame(rows, schema=names.split(), orient="row", schema_overrides={"layer": pl.Int16})


def given(**models: pl.DataFrame) -> ReportInput:
    return study({name: {"token_content": {"lift": frame}} for name, frame in models.items()})


def test_an_induction_selector_is_said_to_prefer_induction_tokens() -> None:
    found = token_content.run(planted_study("induction"), TokenContentSettings(resamples=100))
    (sentence,) = ANSWER.say(given(base=found["lift"]))
    assert sentence.startswith("Induction tokens are preferred, by a factor of ")
    own = found["lift"].filter(pl.col("layer").is_null() & (pl.col("token_class") == "induction"))
    assert f"factor of {own['lift'][0]:.2f}" in sentence


def test_only_what_is_sure_of_all_models_is_told() -> None:
    base = lifts(digit=0.5, word_start=1.05, induction=3.0, repeated=2.0)
    (sentence,) = ANSWER.say(given(base=base, light=lifts(digit=0.95, word_start=1.5, induction=2.0, repeated=2.0)))
    assert sentence == (
        "Induction tokens are preferred, by a factor of 3.00 (2.70 to 3.30) in base and 2.00 (1.80 to 2.20) in light."
    )
    (both,) = ANSWER.say(given(base=base, light=base))
    assert both.endswith(
        "in light; digit tokens are avoided, by a factor of 0.500 (0.450 to 0.550) and 0.500 (0.450 to 0.550)."
    )
    assert ANSWER.say(given(base=lifts(digit=1.02))) == ["No kind of token is certainly preferred or avoided."]
    assert ANSWER.say(study({"base": {}})) == ()


def test_models_stand_side_by_side_in_each_kind() -> None:
    asked = given(base=lifts(digit=0.5, induction=3.0), light=lifts(digit=0.25, induction=2.0))
    figure = across(asked)[0].figure
    light = figure.data.filter(pl.col("series") == "light")
    assert light.select("token_class", "lift").rows() == [("digit", 0.25), ("induction", 2.0)]
    base, other = (marks.y for marks in figure.marks)
    assert (base.round() == [0, 1]).all() and (other.round() == [0, 1]).all() and (other > base).all()


def test_a_kind_of_fewer_samples_says_so() -> None:
    frame = lifts(digit=0.5, special=1.0).with_columns(
        n=pl.when(pl.col("token_class") == "special").then(4).otherwise(64)
    )
    (axes,) = across(given(base=frame))[0].figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["digit", "special (n = 4)"]


def test_the_lift_of_every_layer_is_a_map() -> None:
    (chart,) = PANEL.charts({"lift": lifts(digit=0.05, induction=3.0)})
    assert chart.frame.select("token_class", "layer", "lift").rows() == [("digit", 0, 0.05), ("induction", 0, 3.0)]
    assert chart.frame["powers"].to_list() == [-3, pytest.approx(math.log2(3))] and chart.middle == 0
