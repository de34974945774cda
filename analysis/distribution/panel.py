"""What every attention head does, what the selection holds by layer and position, and how the index scores lie."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.distribution.figures import BY_HEAD, head_maps, metrics_by_position, recall_by_layer
from indexscope.analysis.distribution.recall_figures import recall_of_queries
from indexscope.analysis.distribution.score_figures import score_bands, score_histograms
from indexscope.analysis.report.catalogue import LAYER_METRICS
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import number
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel

HEAD_VALUES = 24_000
"""Values of single heads that a model's page holds at most; metrics that do not fit are left out, and named."""


def across(report: ReportInput) -> list[Drawn]:
    """Recall by layer, and the main metrics by position."""
    return [
        Drawn(
            "recall",
            "Selection recall by layer",
            "Share of the dense attention mass that falls on selected keys. The grey area runs from a blind choice to "
            f"the best choice of as many keys; the coloured band is the {report.interval}. Only queries with more "
            "eligible keys than the indexer may select count.",
            recall_by_layer(report.metrics, report.names),
        ),
        Drawn(
            "positions",
            "By position of the query",
            "Means over all layers in power-of-two buckets: attention entropy and sparsity grow with the number of "
            "eligible keys, so models are comparable within a bucket only.",
            metrics_by_position(report.frames("distribution", "by_bucket"), report.names),
        ),
    ]


def draw_heads(frames: Frames) -> list[Drawn]:
    """Every attention head of every layer."""
    figure = head_maps(frames["by_head"]) if "by_head" in frames else None
    caption = "Means over samples and positions. Dark is low, light is high; grey cells have no value."
    return [Drawn("heads", "Every attention head", caption, figure)]


def draw_scores(frames: Frames) -> list[Drawn]:
    """The index scores of selected and unselected keys, together and by layer."""
    histogram, quantiles = frames.get("score_histogram"), frames.get("score_quantiles")
    return [
        Drawn(
            "histograms",
            "Index scores of selected and unselected keys",
            "Over queries for which the indexer is in effect. Scores of different layers have different scales.",
            None if histogram is None else score_histograms(histogram),
        ),
        Drawn(
            "bands",
            "Index scores by layer",
            "Medians, and the bands that hold most scores.",
            None if quantiles is None else score_bands(quantiles),
        ),
    ]


def charts(frames: Frames) -> list[Chart]:
    """The index scores and the attention heads of a layer."""
    return [*_scores(frames), *_heads(frames)]


def _scores(frames: Frames) -> list[Chart]:
    if "score_histogram" not in frames:
        return []
    rows = frames["score_histogram"].filter(pl.col("layer").is_not_null() & pl.col("density").is_finite())
    return [
        Chart(
            "Index scores of selected and unselected keys",
            "Queries in effect only; the model's own unit of the score.",
            "steps",
            rows.sort("group", "layer", "left").select("group", "layer", "left", "density"),
            x="left",
            xlabel="index score I (the model's own unit)",
            y="density",
            ylabel="density",
            series="group",
            digits=3,
        )
    ]


def _heads(frames: Frames) -> list[Chart]:
    if "by_head" not in frames:
        return []
    rows = frames["by_head"].filter(pl.col("layer").is_not_null() & pl.col("value").is_not_null())
    present = rows["metric"].unique(maintain_order=True).to_list()
    ordered = [name for name in dict.fromkeys([*BY_HEAD, *LAYER_METRICS, *present]) if name in present]
    each = rows.height // max(len(present), 1)
    kept = ordered[: max(1, HEAD_VALUES // max(each, 1))]
    left = [name for name in ordered if name not in kept]
    note = (
        f"Of {len(ordered)} metrics of single attention heads the page holds {len(kept)}, to stay small; the others "
        f"({', '.join(left)}) are in the table by_head of the store."
    )
    place = pl.col("metric").replace_strict({name: place for place, name in enumerate(kept)}, default=len(kept))
    shown = rows.filter(pl.col("metric").is_in(kept)).sort(place, "layer", "head")
    return [
        Chart(
            "Attention heads of the layer",
            "Means over samples and positions. The chosen head is filled.",
            "dots",
            shown.select("metric", "layer", "head", "value"),
            x="head",
            xlabel="attention head",
            y="value",
            series="metric",
            choose=True,
            note=note if left else "",
        )
    ]


def worst_words(frames: Frames) -> list[str]:
    """The worst query of all, and what one query in a hundred falls below."""
    lowest, quantiles = frames.get("worst_queries"), frames.get("recall_quantiles")
    if lowest is None or quantiles is None:
        return []
    row = lowest.sort("value", "layer", nulls_last=True).filter(pl.col("layer").is_not_null()).row(0, named=True)
    overall = quantiles.filter(pl.col("layer").is_null() & pl.col("bucket").is_null() & (pl.col("quantile") == 0.01))
    return [
        f"The lowest recall of any query is {number(row['value'], places=3)}: sample {row['sample']}, position "
        f"{row['position']}, layer {row['layer']}. One query in a hundred keeps less than "
        f"{number(overall['value'][0], places=3)} of its attention (n = {overall['count'][0]:,} queries in effect)."
    ]


def draw_worst(frames: Frames) -> list[Drawn]:
    """Recall of single queries by position and layer."""
    figure = recall_of_queries(frames["recall_quantiles"]) if "recall_quantiles" in frames else None
    caption = (
        "Quantiles over the queries in effect of all samples: by position over all layers, and by layer over all "
        "positions. A median near 1 over a low last percentile is a selection that fails now and then."
    )
    return [Drawn("queries", "Recall of single queries", caption, figure)]


HEADS = Panel("distribution", 10, "misses", "Attention heads", draw=draw_heads, charts=charts, across=across)
SCORES = Panel("distribution", 60, "selects", "Index scores", draw=draw_scores)
WORST = Panel("distribution", 15, "misses", "Recall of single queries", words=worst_words, draw=draw_worst)
