"""What the panel of sharing says is what the frames hold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from indexscope.analysis.layer_sharing import LayerSharingSettings
from indexscope.analysis.layer_sharing import panel as sharing_panel
from indexscope.analysis.layer_sharing import run as layer_sharing
from tests.analysis.layer_sharing.test_sharing import table
from tests.report.drawing import drawn


def frames(losses: np.ndarray, own: list[bool] | None = None) -> dict[str, pl.DataFrame]:
    found = layer_sharing.run(
        {"layer_sharing": table(losses, [1.0] * len(losses), own)}, LayerSharingSettings(resamples=100)
    )
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
    assert [picture.count("<svg") for picture in drawn(sharing_panel.PANEL, given)] == [1, 1]
    (shown,) = sharing_panel.tables(given)
    assert len(shown.rows) == 16 and shown.rows[0][0] == "1" and shown.rows[-1][0] == "30"
    assert all(len(row) == len(shown.columns) for row in shown.rows)


def test_nothing_is_said_where_nothing_was_measured() -> None:
    assert sharing_panel.words({}) == drawn(sharing_panel.PANEL, {}) == sharing_panel.tables({}) == []
