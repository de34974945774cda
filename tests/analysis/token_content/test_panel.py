"""What the panel of the selected tokens says is what the frames hold."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.token_content import TokenContentSettings
from indexscope.analysis.token_content import panel as content_panel
from indexscope.analysis.token_content import run as token_content
from tests.analysis.token_content.test_collect import planted_study
from tests.report.drawing import drawn


def test_content_is_told_drawn_and_tabled() -> None:
    given = token_content.run(planted_study("induction"), TokenContentSettings(resamples=100))
    shown = {name: frame for name, frame in given.items() if not frame.is_empty()}
    words = content_panel.words(shown)
    assert words[0].startswith("Selected more often than by chance: induction ")
    assert "most in layer 0" in " ".join(words) and "nan" not in " ".join(words)
    (svg,) = drawn(content_panel.PANEL, shown)
    assert "induction" in svg and "n = 12 samples" in svg
    (listed,) = content_panel.tables(shown)
    assert [row[0] for row in listed.rows] == shown["lift"].filter(pl.col("layer").is_null())["token_class"].to_list()


def test_nothing_is_said_where_nothing_was_measured() -> None:
    assert content_panel.words({}) == drawn(content_panel.PANEL, {}) == content_panel.tables({}) == []
