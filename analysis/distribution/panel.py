"""What every attention head does, what the selection holds by layer and position, and how the index scores lie."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.distribution.figures import BY_HEAD, head_maps, recall_by_layer
from indexscope.analysis.distribution.recall_figures import recall_of_queries
from indexscope.analysis.distribution.score_figures import score_bands, score_histograms
from indexscope.analysis.metrics.registry import REGISTRY, label
from indexscope.analysis.report.catalogue import LAYER_METRICS
from indexscope.analysis.report.charting import FROM, FROM_LABEL
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import number, percent
from indexscope.analysis.report.overlaid import overlaid
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel

BY_POSITION = ("selection_recall", "normalized_entropy", "sparsity_ratio")
_LEVELS = {0.5: "median", 0.1: "10\u202f% below", 0.01: "1\u202f% below", 0.0: "lowest of all"}
_TOGETHER = 6
HEAD_VALUES = 24_000
"""Values of single heads that a model's page holds at most; metrics that do not fit are left out, and named."""


def across(report: ReportInput) -> list[Drawn]:
    """Recall by layer."""
    return [
        Drawn(
            "recall",
            "Attention kept by layer",
            "Share of the dense attention that falls on selected keys, at queries with more eligible keys than may be "
            f"selected. Bands are the {report.interval}; rings mark the layer in which each model keeps least; the "
            "grey area runs from a random choice to the best choice of as many keys.",
            recall_by_layer(report.metrics, overlaid(report)),
        )
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
    """All attention heads at once, those of a layer, and the main metrics by position."""
    return [*_maps(frames), *_heads(frames), *_positions(frames)]


def _maps(frames: Frames) -> list[Chart]:
    if "by_head" not in frames:
        return []
    rows = frames["by_head"].filter(pl.col("layer").is_not_null() & pl.col("value").is_finite())
    return [
        Chart(
            f"Every attention head: {label(metric)}",
            "Means over samples and positions.",
            "map",
            rows.filter(pl.col("metric") == metric).sort("layer", "head").select("layer", "head", "value"),
            x="layer",
            xlabel="layer",
            y="head",
            ylabel="attention head",
            shade="value",
            digits=3,
        )
        for metric in BY_HEAD
        if metric in set(rows["metric"])
    ]


def _positions(frames: Frames) -> list[Chart]:
    if "by_bucket" not in frames:
        return []
    rows = frames["by_bucket"].filter(pl.col("layer").is_null() & pl.col("value").is_finite())
    found = []
    for metrics in (BY_POSITION, ("nll",)):
        own = rows.filter(pl.col("metric").is_in(metrics)).with_columns(FROM)
        order = {metric: place for place, metric in enumerate(metrics)}
        own = own.sort("bucket", pl.col("metric").replace_strict(order, default=0, return_dtype=pl.Int32))
        unit = REGISTRY[metrics[0]].unit
        found.append(
            Chart(
                "By position of the query" + ("" if len(metrics) > 1 else f": {label(metrics[0])}"),
                "Means over all layers. Entropy and sparsity grow with the number of eligible keys: compare models at "
                "equal positions."
                if len(metrics) > 1
                else "Means over samples.",
                "line",
                own.select("bucket", "from", "value", metric=pl.col("metric").replace({m: label(m) for m in metrics})),
                x="bucket",
                xlabel=FROM_LABEL,
                labels="from",
                y="value",
                ylabel=unit,
                series="metric" if len(metrics) > 1 else "",
            )
        )
    return [chart for chart in found if chart.frame.height]


def charts_of_scores(frames: Frames) -> list[Chart]:
    """The index scores of a layer, and of all layers at once."""
    return [*_scores(frames), *_bands(frames)]


def _bands(frames: Frames) -> list[Chart]:
    """Medians with the bands that hold most scores; of one layer there is nothing to follow."""
    if "score_quantiles" not in frames:
        return []
    known_ones = pl.col("layer").is_not_null() & pl.col("value").is_finite()
    rows = frames["score_quantiles"].filter(known_ones & pl.col("group").is_in(["selected", "unselected"]))
    levels = sorted(rows["quantile"].unique())
    if rows["layer"].n_unique() < 2 or 0.5 not in levels:
        return []
    low, high = (min(levels, key=lambda level: abs(level - end)) for end in (0.05, 0.95))

    def at(level: float) -> pl.Expr:
        return pl.col("value").filter(pl.col("quantile") == level).first()

    bands = rows.group_by("group", "layer").agg(value=at(0.5), ci_low=at(low), ci_high=at(high))
    return [
        Chart(
            "Index scores of all layers",
            f"Medians; the bands run from the {percent(low)} to the {percent(high)} quantile. Layers have scales of "
            "their own.",
            "line",
            bands.sort("group", "layer").rename({"layer": "at"}),
            x="at",
            xlabel="layer",
            y="value",
            ylabel="index score (the model's own unit)",
            series="group",
            digits=3,
        )
    ]


def charts_of_queries(frames: Frames) -> list[Chart]:
    """Quantiles of recall over single queries, by position and by layer."""
    if "recall_quantiles" not in frames:
        return []
    rows = frames["recall_quantiles"].with_columns(FROM).sort("quantile", descending=True)
    words = pl.col("quantile").replace_strict(_LEVELS, default=None, return_dtype=pl.String).alias("of queries")
    rows = rows.with_columns(words).drop_nulls("of queries")
    order = pl.col("quantile").rank("dense", descending=True)
    by_position = rows.filter(pl.col("layer").is_null() & pl.col("bucket").is_not_null()).sort(order, "bucket")
    by_layer = rows.filter(pl.col("bucket").is_null() & pl.col("layer").is_not_null()).sort(order, "layer")
    about = "Quantiles over the queries in effect of all samples. A median near 1 over a low 1 % fails now and then."
    told = ("of queries", "value")
    found = [
        Chart("Recall of single queries by position", about, "line", by_position.select("bucket", "from", *told),
              x="bucket", xlabel=FROM_LABEL, labels="from", y="value", ylabel="attention kept (share)",
              series="of queries"),
        Chart("Recall of single queries by layer", about, "line", by_layer.select(*told, at="layer"),
              x="at", xlabel="layer", y="value", ylabel="attention kept (share)", series="of queries"),
    ]  # fmt: skip
    return [chart for chart in found if chart.frame[chart.x].n_unique() > 1]


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
    # One axis holds what has one unit, and one picture no more than a few colours.
    shares = [name for name in ordered if name not in REGISTRY or REGISTRY[name].unit == "share"]
    kept = shares[: min(_TOGETHER, max(1, HEAD_VALUES // max(each, 1)))]
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
            shown.select(pl.col("metric").replace({name: label(name) for name in kept}), "layer", "head", "value"),
            x="head",
            xlabel="attention head",
            y="value",
            ylabel="share",
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
SCORES = Panel("distribution", 60, "selects", "Index scores", draw=draw_scores, charts=charts_of_scores)
WORST = Panel(
    "distribution",
    15,
    "misses",
    "Recall of single queries",
    words=worst_words,
    draw=draw_worst,
    charts=charts_of_queries,
)
