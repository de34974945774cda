"""Claims about which tokens of a text are shown."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.token_content.excerpt import RECENT, SHOWN, shown_positions


def test_a_short_text_is_shown_whole() -> None:
    assert shown_positions(np.ones(200), 159).tolist() == list(range(160))
    assert shown_positions(np.ones(1), 0).tolist() == [0]


def test_the_stretch_with_most_weight_is_shown_beside_the_end() -> None:
    weight = np.zeros(1000)
    weight[300], weight[310], weight[700], weight[950] = 0.3, 0.3, 0.5, 9.0
    shown = shown_positions(weight, 999)
    assert 300 in shown and 310 in shown and 700 not in shown
    assert shown[-RECENT:].tolist() == list(range(904, 1000))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 700), st.integers(0, 1000))
def test_excerpts_are_ascending_within_the_text_and_as_good_as_any(query: int, seed: int) -> None:
    weight = np.random.default_rng(seed).random(query + 5) ** 8
    shown = shown_positions(weight, query)
    assert len(shown) == min(query + 1, SHOWN)
    assert shown[-1] == query and (np.diff(shown) > 0).all() and shown[0] >= 0
    if query >= SHOWN:
        early = query + 1 - RECENT
        width = SHOWN - RECENT
        best = max(weight[first : first + width].sum() for first in range(early - width + 1))
        assert np.isclose(weight[shown[shown < early]].sum(), best)
