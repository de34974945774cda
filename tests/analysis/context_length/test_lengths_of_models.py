"""From which length on the selection is worse is told and drawn of all models."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.context_length import ContextLengthSettings
from indexscope.analysis.context_length import run as context_length
from indexscope.analysis.context_length.answer import ANSWER
from indexscope.analysis.context_length.panel import PANEL, across
from indexscope.analysis.report.inputs import ReportInput
from tests.analysis.context_length.test_length import planted_loss
from tests.report.studies import rings, study

STEADY, FALLING = [0.0] * 4, [0.0, 0.0, 0.05, 0.2]


def given(**losses: Sequence[float]) -> ReportInput:
    found = {
        name: context_length.run(planted_loss(loss), ContextLengthSettings(resamples=50))
        for name, loss in losses.items()
    }
    return study({name: {"context_length": frames} for name, frames in found.items()})


def test_the_length_of_each_model_is_told() -> None:
    none, lost = ANSWER.say(given(base=STEADY, light=FALLING))
    assert none.startswith("No lasting loss of the selection's skill with length is detected in base: ")
    assert lost.startswith("From 63 tokens on the selection has detectably less skill in light: 0.19")
    assert none.endswith("less at 127 than at 15.") and lost.endswith("less at 127 than at 15.")
    (both,) = ANSWER.say(given(base=FALLING, light=FALLING))
    assert "less skill: 0.19" in both and "less at 127 than at 15 in base and 0.19" in both


def test_one_model_needs_no_name_and_a_dense_one_no_sentence() -> None:
    (sentence,) = ANSWER.say(given(base=FALLING))
    assert sentence.startswith("From 63 tokens on the selection has detectably less skill") and "base" not in sentence
    assert ANSWER.say(study({"base": {}})) == [] and across(study({"base": {}}))[0].figure is None
    dense = pl.DataFrame({"metric": ["nll"], "layer": [None], "kind": ["at"], "length": [15], "value": [2.0]})
    frames = {"lengths": dense}
    assert PANEL.words(frames) == [] and PANEL.tables(frames) in ((), []) and PANEL.draw(frames)[0].figure is None


def test_lines_are_the_values_at_each_length_and_the_onset_is_ringed() -> None:
    asked = given(base=STEADY, light=FALLING)
    figure = across(asked)[0].figure
    recall, skill = figure.axes
    lengths = asked.frames("context_length", "lengths")["light"].filter(
        (pl.col("kind") == "at") & pl.col("layer").is_null() & (pl.col("metric") == "selection_skill")
    )
    own = lengths.filter(pl.col("value").is_finite()).sort("length")
    shown = figure.data.filter((pl.col("series") == "light") & (pl.col("panel") == "selection skill"))
    assert shown["value"].to_list() == own["value"].to_list()
    assert rings(skill) == [(63, own.filter(pl.col("length") == 63)["value"][0])] and rings(recall) == []
    assert all("log" in axes.get_xlabel() for axes in figure.axes)


def test_nothing_is_written_as_a_power_of_ten() -> None:
    frames = dict(given(base=STEADY).models[0].analyses["context_length"])
    tiny = pl.lit(-8.75e-7)
    frames["lengths"] = frames["lengths"].with_columns(value=tiny, ci_low=tiny - 1e-8, ci_high=tiny + 1e-8)
    cells = [cell for table in PANEL.tables(frames) for row in table.rows for cell in row[1:]]
    assert set(cells) == {"0.00000 (0.00000 to 0.00000)"}
