"""Whether near keys are preferred is told and drawn of all models, and never of noise."""

from __future__ import annotations

import polars as pl
import pytest

from indexscope.analysis.positional_bias import PositionalBiasSettings
from indexscope.analysis.positional_bias import run as positional_bias
from indexscope.analysis.positional_bias.answer import ANSWER
from indexscope.analysis.positional_bias.panel import BIAS, across
from indexscope.analysis.report.inputs import ReportInput
from tests.analysis.positional_bias.selectors import Selector, at_random, first, nearest, table
from tests.report.studies import study


def frames(selector: Selector) -> dict[str, pl.DataFrame]:
    return positional_bias.run({"positions": table(selector, [120] * 8, 8)}, PositionalBiasSettings(resamples=50))


def given(**selectors: Selector) -> ReportInput:
    found = {name: frames(selector) for name, selector in selectors.items()}
    values = {
        name: list(own["metrics"].select("metric", "layer", "value", "ci_low", "ci_high").iter_rows())
        for name, own in found.items()
    }
    return study({name: {"positional_bias": own} for name, own in found.items()}, values)


@pytest.mark.parametrize(
    ("selector", "told"),
    [
        (
            nearest,
            "Near keys are selected more often than by a random choice of as many: the 32 nearest by a factor",
        ),
        (first, "Near keys are selected less often than by a random choice of as many: the 32 nearest by a factor"),
        (at_random, "Near keys are selected neither certainly more nor certainly less often than by a random choice"),
    ],
)
def test_a_preference_is_told_as_the_interval_allows(selector: Selector, told: str) -> None:
    (sentence,) = ANSWER.say(given(base=selector))
    assert sentence.startswith(told) and "base" not in sentence
    assert ("; the oldest tenth by" in sentence) == (selector is first)


def test_models_that_differ_are_told_apart() -> None:
    sentences = ANSWER.say(given(base=nearest, light=first))
    assert [text.split(" than")[0] for text in sentences] == [
        "Near keys are selected more often",
        "Near keys are selected less often",
    ]
    assert "in base." in sentences[0] and "in light; the oldest tenth" in sentences[1]


def test_the_lines_of_the_figure_are_the_lifts_of_the_models() -> None:
    asked = given(base=nearest, light=at_random)
    (picture,) = across(asked)
    rows = picture.figure.data
    for name, frame in asked.frames("positional_bias", "lift").items():
        own = frame.filter((pl.col("axis") == "distance") & pl.col("layer").is_null()).sort("bin")
        shown = rows.filter((pl.col("series") == name) & (pl.col("panel") == "distance"))
        assert shown.select("lift", "ci_low", "ci_high").equals(own.select("lift", "ci_low", "ci_high"))
    assert picture.title == "Positional bias of the selection" and "Attention" not in picture.caption


def test_a_dense_model_is_described_by_its_attention_alone() -> None:
    asked = given(base=nearest)
    blank = {name: pl.lit(None, pl.Float64).alias(name) for name in ("lift", "ci_low", "ci_high", "selections")}
    lift = asked.models[0].analyses["positional_bias"]["lift"].with_columns(*blank.values())
    metrics = [("attention_recency_lift", None, 3.0, 2.9, 3.1), ("attention_oldest_lift", None, 0.5, 0.4, 0.6)]
    dense = study({"base": {"positional_bias": {"lift": lift}}}, {"base": metrics})
    (picture,) = across(dense)
    assert picture.title == "Positional bias of the attention" and "selected" not in picture.caption
    assert picture.figure.data["attention_lift"].null_count() == 0
    assert ANSWER.say(dense) == [
        "Near keys get more attention than an even spread would give: the 32 nearest by a factor of 3.00 "
        "(2.90 to 3.10)."
    ]
    (listed,) = BIAS.tables({"lift": lift})
    assert listed.columns == ("distance (tokens)", "attention lift", "CI", "n (samples)")
    assert not any("–" in row[1:] for row in listed.rows)
    assert {chart.kind for chart in BIAS.charts({"lift": lift})} == {"map", "line"}


def test_the_map_of_lifts_is_in_powers_of_two_and_ends_at_sixteenfold() -> None:
    lift = frames(nearest)["lift"]
    shown, _ = BIAS.charts({"lift": lift})
    own = lift.filter((pl.col("axis") == "distance") & pl.col("layer").is_not_null()).sort("bin", "layer")
    assert shown.frame["lift"].to_list() == own["lift"].to_list()
    assert shown.frame["powers"].to_list() == own["lift"].log(2).clip(-4, 4).to_list()
    assert shown.frame["powers"].min() == -4 and own["lift"].min() == 0  # nearest selects nothing far away
