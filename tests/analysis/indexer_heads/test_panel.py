"""Claims about what the report says of indexer heads."""

from __future__ import annotations

import polars as pl
import pytest

from indexscope.analysis.indexer_heads import IndexerHeadsSettings
from indexscope.analysis.indexer_heads import run as indexer_heads
from indexscope.analysis.indexer_heads.panel import PANEL
from tests.analysis.indexer_heads.planted_heads import roles
from tests.report.drawing import drawn


@pytest.fixture(scope="module")
def frames() -> dict[str, pl.DataFrame]:
    return indexer_heads.run(roles(), IndexerHeadsSettings(resamples=50))


def pruned(losses: list[float], reach: float) -> pl.DataFrame:
    """Losses over all layers as heads go one by one, with intervals of one half-width."""
    count = len(losses)
    return pl.DataFrame(
        {
            "layer": [None] * count,
            "removed": list(range(count)),
            "recall_loss": losses,
            "ci_low": [loss - reach for loss in losses],
            "ci_high": [loss + reach for loss in losses],
            "flops_share": [1 - place / count for place in range(count)],
            "n": [6] * count,
        },
        schema_overrides={"layer": pl.Int16},
    )


def test_roles_and_heads_that_vote_keys_down_are_counted(frames: dict[str, pl.DataFrame]) -> None:
    said = " ".join(PANEL.words(frames))
    assert "A layer has 7 indexer heads" in said
    assert "previous token (4)" in said
    assert "against previous token (2)" in said
    assert "2 of 14 heads mostly have a negative weight" in said


def test_only_losses_that_are_surely_small_make_heads_dispensable() -> None:
    (sentence,) = PANEL.words({"pruning": pruned([0.0, 0.001, 0.004, 0.02], 0.002)})
    assert sentence.startswith("Without 2 heads in every layer")
    assert "50\u202f%" in sentence
    (sentence,) = PANEL.words({"pruning": pruned([0.0, 0.001, 0.004], 0.05)})
    assert sentence.startswith("No head can go from every layer")


def test_figures_and_table_show_every_layer_and_head(frames: dict[str, pl.DataFrame]) -> None:
    similarity, curves = (one.figure for one in PANEL.draw(frames))
    assert similarity is not None and curves is not None
    assert [axes.get_title(loc="left") for axes in similarity.axes[:2]] == ["layer 0", "layer 1"]
    assert len(curves.axes[0].lines) == 3
    (table,) = PANEL.tables(frames)
    assert len(table.rows) == 14
    assert table.rows[1][:2] == ("0.1", "sink")


def test_one_sample_is_told_without_intervals() -> None:
    frames = indexer_heads.run(roles(samples=1), IndexerHeadsSettings(resamples=50))
    shown = {name: frame for name, frame in frames.items() if not frame.is_empty()}
    assert "pruning" not in shown
    assert any("equal ones" in sentence and " to " not in sentence for sentence in PANEL.words(shown))
    assert len(drawn(PANEL, shown)) == 1
