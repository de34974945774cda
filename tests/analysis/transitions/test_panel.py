"""How maps moved is told and drawn as the frames have it."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.transitions import panel as transitions
from indexscope.analysis.transitions.figures import transition_maps
from tests.report.drawing import drawn

MOVED = pl.DataFrame(
    [(None, "cluster", 0.125, 0.05, 0.25, 9), (0, "cluster", 0.0, 0.0, 0.0, 9), (1, "cluster", 0.25, 0.1, 0.5, 9)],
    schema={
        "layer": pl.Int16, "of": pl.String, "moved": pl.Float64, "ci_low": pl.Float64, "ci_high": pl.Float64,
        "n": pl.Int32,
    },
    orient="row",
)  # fmt: skip
MOVES = pl.DataFrame(
    {"layer": [None] * 3, "of": ["cluster"] * 3, "before": ["0", "0", "10"], "after": ["0", "10", "10"],
     "share": [0.75, 0.25, 1.0], "ci_low": [0.65, 0.15, None], "ci_high": [0.85, 0.35, None], "count": [3, 1, 4],
     "n": [4, 4, 1]}
)  # fmt: skip


def test_moved_maps_are_told_with_their_interval_and_the_layer_that_moved_most() -> None:
    (sentence,) = transitions.words({"moved": MOVED})
    assert sentence == (
        "12.5\u202f% of the maps are in another cluster than in the baseline (CI 5.00 to 25.00 %, n = 9 samples); "
        "most in layer 1, 25\u202f%."
    )
    assert transitions.words({}) == drawn(transitions.PANEL, {}) == []


def test_the_matrix_shows_the_share_of_each_move() -> None:
    figure = transition_maps(MOVES)
    assert figure is not None
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["75.0", "65.0–85.0", "25.0", "15.0–35.0", "100.0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "10"]
    assert transition_maps(MOVES.clear()) is None
    (table,) = transitions.tables({"transitions": MOVES})
    assert table.columns[:4] == ("cluster in the baseline", "now", "share, %", "CI")
    assert table.rows == (
        ("0", "0", "75", "65 to 85", "3", "4"),
        ("0", "10", "25", "15 to 35", "1", "4"),
        ("10", "10", "100.0", "–", "4", "1"),
    )
