"""What readers unfold of one model: maps and curves from the frames, and small ones."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from indexscope.analysis.indexer_heads.panel import PANEL as HEADS
from indexscope.analysis.layer_sharing.panel import PANEL as SHARING
from indexscope.analysis.output_divergence.panel import PANEL as OUTPUTS
from indexscope.analysis.report.charting import by_position, chart_rows
from indexscope.analysis.report.panel import Chart
from indexscope.analysis.stability.panel import PANEL as STABILITY
from indexscope.analysis.transitions.panel import PANEL as TRANSITIONS
from tests.report.output_frames import output_frames
from tests.report.panel_frames import panel_frames


def titled(charts: list[Chart]) -> dict[str, Chart]:
    return {chart.title: chart for chart in charts}


@pytest.fixture(scope="module")
def frames() -> dict[str, dict[str, pl.DataFrame]]:
    return panel_frames(3, 2, 4, np.random.default_rng(0), 10)


def test_rows_without_a_value_are_left_out_and_an_interval_is_kept_where_all_have_one() -> None:
    rows = pl.DataFrame(
        {"x": [0, 1, 2], "y": [1.0, None, 3.0], "ci_low": [0.5, None, 2.5], "ci_high": [2.0, None, 4.0]}
    )
    assert chart_rows(rows, "x", "y").rows() == [(0, 1.0, 0.5, 2.0), (2, 3.0, 2.5, 4.0)]
    open_ended = rows.with_columns(ci_low=None)
    assert chart_rows(open_ended, "x", "y").columns == ["x", "y"]


def test_positions_are_told_in_words_in_their_order() -> None:
    where = pl.DataFrame({"layer": [1, 0, None], "bucket": [2, 0, 0], "overlap": [0.25, 0.5, 0.9]})
    assert by_position(where, "overlap").rows() == [(0, "0 to 0", 0.5), (1, "3 to 6", 0.25)]


def test_sharing_is_a_map_of_layers_by_sources(frames: dict[str, dict[str, pl.DataFrame]]) -> None:
    charts = titled(list(SHARING.charts(frames["layer_sharing"])))
    similarity = frames["layer_sharing"]["similarity"]
    shared = charts["Keys that layers share"]
    assert (shared.kind, shared.shade) == ("map", "overlap") and shared.frame.height == similarity.height
    cell = similarity.row(by_predicate=(pl.col("layer") == 2) & (pl.col("source") == 1), named=True)
    drawn = shared.frame.row(by_predicate=(pl.col("layer") == 2) & (pl.col("source") == 1), named=True)
    assert drawn["overlap"] == cell["overlap"]
    assert "exact, held out" in charts["Loss by the number of indexers"].frame["method"]


def test_every_two_heads_are_a_map_on_both_sides_of_its_diagonal(frames: dict[str, dict[str, pl.DataFrame]]) -> None:
    alike = titled(list(HEADS.charts(frames["indexer_heads"])))["Similarity of indexer heads"]
    assert alike.middle == 0.0 and alike.frame.height == 3 * 4 * 3
    ways = alike.frame.filter((pl.col("layer") == 0) & pl.col("head_a").is_in([0, 1]) & pl.col("head_b").is_in([0, 1]))
    assert ways["correlation"].n_unique() == 1 and ways.height == 2


def test_of_many_heads_only_the_nearest_of_each_is_kept() -> None:
    many = panel_frames(30, 2, 24, np.random.default_rng(0), 10)["indexer_heads"]
    nearest = titled(list(HEADS.charts(many)))["Nearest other head"].frame
    assert nearest.height == 30 * 24
    own = many["pairs"].filter((pl.col("layer") == 7) & ((pl.col("head_a") == 3) | (pl.col("head_b") == 3)))
    row = nearest.row(by_predicate=(pl.col("layer") == 7) & (pl.col("head_a") == 3), named=True)
    assert row["correlation"] == own["correlation"].max()


def test_stability_and_transitions_keep_what_their_pictures_showed(frames: dict[str, dict[str, pl.DataFrame]]) -> None:
    same, again = STABILITY.charts(frames["stability"])
    assert same.frame["variant"].n_unique() == 5 and again.frame["variant"].n_unique() == 7
    assert same.frame["layer"].null_count() == 0 and not same.log
    clusters, types = TRANSITIONS.charts(frames["transitions"])
    sums = clusters.frame.group_by("before").agg(pl.col("share").sum())["share"]
    assert sums.to_list() == pytest.approx([1.0] * 5) and types.frame["after"].n_unique() == 5


def test_divergence_is_drawn_by_position_and_by_class() -> None:
    frames = output_frames("light", 1, 8)
    charts = titled(list(OUTPUTS.charts(frames)))
    assert set(charts["Divergence by position"].frame["of"]) == {"mean", "median"}
    assert charts["Divergence by token class"].kind == "dots"
    rows = charts["Perplexity by position"].frame
    assert set(rows["of"]) == {"from the baseline's", "from that of dense attention"}
    ratio = frames["output_divergence_by"].filter(
        (pl.col("statistic") == "perplexity_ratio") & (pl.col("axis") == "position")
    )
    assert rows["value"].max() == pytest.approx(100 * (ratio["value"].max() - 1))
