"""The panels' sentences say what the frames say, and no more."""

from __future__ import annotations

import polars as pl

from indexscope.analysis import length, positional
from indexscope.analysis.report.panels import length as by_length
from indexscope.analysis.report.panels import positional as by_position
from indexscope.analysis.settings import LengthSettings, PositionalBiasSettings
from tests.analysis.length.test_length import planted_loss
from tests.analysis.positional.selectors import Selector, at_random, nearest, table


def frames(found: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return {name: frame for name, frame in found.items() if not frame.is_empty()}


def test_the_length_at_which_recall_begins_to_fall_is_said() -> None:
    found = frames(length.run(planted_loss([0.0, 0.0, 0.05, 0.2]), LengthSettings(resamples=50)))
    told = by_length.words(found)
    assert "is detectably worse from 63 tokens on" in told[0] and "n = 20" in told[0]
    assert told[-1].startswith("By layer, a loss of recall is detected in 1 of 1, first in layer 0 (from 63")
    assert len(by_length.draw(found)) == 1
    assert [len(own.rows) for own in by_length.tables(found)] == [4, 4]  # the lengths at which something is left out


def test_a_loss_that_was_not_detected_is_not_ruled_out() -> None:
    told = by_length.words(frames(length.run(planted_loss([0.0] * 4), LengthSettings(resamples=50))))
    assert "shows no loss with length that lasts" in told[0] and "does not rule out" in told[0]


def bias_words(selector: Selector) -> list[str]:
    result = positional.run({"positions": table(selector, [60] * 10, 8)}, PositionalBiasSettings(resamples=50))
    return list(by_position.words(frames(result)))


def test_noise_is_not_called_a_preference() -> None:
    told = bias_words(at_random)
    assert "so that no preference is detected" in told[0]
    assert not any("Of it come" in text for text in told)


def test_a_preference_is_told_with_where_it_comes_from() -> None:
    told = bias_words(nearest)
    assert "so that a preference is detected" in told[0]
    assert told[1].startswith("Of it come ") and "the 32 nearest keys" in told[1]
