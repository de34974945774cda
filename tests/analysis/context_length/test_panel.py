"""The panel's sentences say what the frames say, and no more."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.context_length import ContextLengthSettings
from indexscope.analysis.context_length import panel as by_length
from indexscope.analysis.context_length import run as context_length
from tests.analysis.context_length.test_length import planted_loss
from tests.report.drawing import drawn


def frames(found: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return {name: frame for name, frame in found.items() if not frame.is_empty()}


def test_the_length_at_which_skill_begins_to_fall_is_said() -> None:
    found = frames(context_length.run(planted_loss([0.0, 0.0, 0.05, 0.2]), ContextLengthSettings(resamples=50)))
    told = by_length.words(found)
    assert "is detectably worse from 63 tokens on" in told[0] and "n = 20" in told[0]
    assert told[-1].startswith("By layer, a loss of skill is detected in 1 of 1, first in layer 0 (from 63")
    assert len(drawn(by_length.PANEL, found)) == 1
    assert [len(own.rows) for own in by_length.tables(found)] == [4, 4]  # the lengths at which something is left out


def test_a_loss_that_was_not_detected_is_not_ruled_out() -> None:
    told = by_length.words(frames(context_length.run(planted_loss([0.0] * 4), ContextLengthSettings(resamples=50))))
    assert "shows no loss with length that lasts" in told[0] and "does not rule out" in told[0]
