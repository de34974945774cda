"""What the panels of sharing and content say is what the frames hold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from indexscope.analysis import content, sharing
from indexscope.analysis.plots import to_svg
from indexscope.analysis.report.panels import content as content_panel
from indexscope.analysis.report.panels import sharing as sharing_panel
from indexscope.analysis.settings import ContentSettings, SharingSettings
from tests.analysis.probe.test_content_rows import planted_study
from tests.analysis.sharing.test_sharing import table


def frames(losses: np.ndarray, own: list[bool] | None = None) -> dict[str, pl.DataFrame]:
    found = sharing.run({"layer_sharing": table(losses, [1.0] * len(losses), own)}, SharingSettings(resamples=100))
    return {name: frame for name, frame in found.items() if not frame.is_empty()}


def noisy(level: float, samples: int = 10, layers: int = 8) -> np.ndarray:
    return level * (1 + 0.1 * np.random.default_rng(1).standard_normal((samples, layers, layers)))


@pytest.mark.parametrize(
    ("level", "overlap", "removable"),
    [
        (0.001, "agree with the 70 to 100 %", "the data support that 75\u202f% of the indexers can go"),
        (0.2, "agree with the 70 to 100 %", "the data speak against taking 75\u202f%"),
        (0.8, "do not reach the 70 to 100 %", "the data speak against taking 75\u202f%"),
    ],
)
def test_published_claims_are_judged_by_the_data(level: float, overlap: str, removable: str) -> None:
    words = " ".join(sharing_panel.words(frames(noisy(level))))
    assert overlap in words and removable in words
    assert "With 2 of 8 indexers" in words
    assert ("7 of 7 layers reach" in words) == (level < 0.5)


def test_few_indexers_and_shared_layers_are_told() -> None:
    words = " ".join(sharing_panel.words(frames(noisy(0.1, layers=4), [True, False, True, False])))
    assert "Three quarters of 2 indexers cannot be taken away" in words
    assert "2 of 4 layers have no indexer of their own" in words
    assert "layer 3" not in words.split("Three quarters")[0]


def test_one_sample_has_words_without_intervals() -> None:
    words = " ".join(sharing_panel.words(frames(noisy(0.1, samples=1))))
    assert "CI" not in words and "half of the samples" not in words
    assert "nan" not in words and "None" not in words
    assert "neither confirm nor refute" in words and "cannot tell" in words


def test_sharing_is_drawn_and_tabled() -> None:
    given = frames(noisy(0.1, layers=30))
    drawn = sharing_panel.draw(given)
    assert [
        to_svg(figure, f"s{place}", title, caption).count("<svg")
        for place, (figure, title, caption) in enumerate(drawn)
    ] == [1, 1]
    (shown,) = sharing_panel.tables(given)
    assert len(shown.rows) == 16 and shown.rows[0][0] == "1" and shown.rows[-1][0] == "30"
    assert all(len(row) == len(shown.columns) for row in shown.rows)


def test_content_is_told_drawn_and_tabled() -> None:
    given = content.run(planted_study("induction"), ContentSettings(resamples=100))
    shown = {name: frame for name, frame in given.items() if not frame.is_empty()}
    words = content_panel.words(shown)
    assert words[0].startswith("Selected more often than by chance: induction ")
    assert "most in layer 0" in " ".join(words) and "nan" not in " ".join(words)
    ((figure, title, caption),) = content_panel.draw(shown)
    svg = to_svg(figure, "c", title, caption)
    assert "induction" in svg and "n = 12 samples" in svg
    (listed,) = content_panel.tables(shown)
    assert [row[0] for row in listed.rows] == shown["lift"].filter(pl.col("layer").is_null())["token_class"].to_list()


def test_nothing_is_said_where_nothing_was_measured() -> None:
    for panel in (sharing_panel, content_panel):
        assert panel.words({}) == panel.draw({}) == panel.tables({}) == []
