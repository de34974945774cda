"""The panel's sentences say what the frames say, and no more."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.positional_bias import PositionalBiasSettings
from indexscope.analysis.positional_bias import panel as by_position
from indexscope.analysis.positional_bias import run as positional_bias
from tests.analysis.positional_bias.selectors import Selector, at_random, nearest, table


def frames(found: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return {name: frame for name, frame in found.items() if not frame.is_empty()}


def bias_words(selector: Selector) -> list[str]:
    result = positional_bias.run({"positions": table(selector, [60] * 10, 8)}, PositionalBiasSettings(resamples=50))
    return list(by_position.words(frames(result)))


def test_noise_is_not_called_a_preference() -> None:
    told = bias_words(at_random)
    assert "so that no preference is detected" in told[0]
    assert not any("Of it come" in text for text in told)


def test_a_preference_is_told_with_where_it_comes_from() -> None:
    told = bias_words(nearest)
    assert "so that a preference is detected" in told[0]
    assert told[1].startswith("Of it come ") and "the 32 nearest keys" in told[1]
