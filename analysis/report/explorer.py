"""What the page lets a reader look at one layer and one head at a time: packed once, drawn by the page's script.

Everything here is in the static figures and tables too, there for a few layers or for all of them together; without
the script nothing is lost but the choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from indexscope.analysis.names import visible
from indexscope.analysis.plots.heads import PREFERRED
from indexscope.analysis.plots.packed import column
from indexscope.analysis.report.catalogue import LAYER_METRICS, meaning
from indexscope.analysis.report.inputs import ModelPage, ReportInput

HEAD_VALUES = 24_000
"""Values of single heads that a model's page holds at most; metrics that do not fit are left out, and named."""
_DIGITS = 4

Frames = Mapping[str, pl.DataFrame]
Chart = dict[str, Any]


def explorer_data(report: ReportInput, page: ModelPage) -> dict[str, Any] | None:
    """The data as JSON values, or None for a model with a single layer or without layers.

    ``layers`` and ``heads``: what can be chosen. ``charts``: title, about, kind (steps, line, dots or bars), the
    columns that it uses, and ``columns`` as `column` packs them, one of which is ``layer``. ``metrics``: columns of
    the layer's table. ``excerpt``: texts with selected tokens. ``notes``: what was left out.
    """
    metrics = _metrics(report, page)
    layers = metrics["layer"].unique().sort().to_list()
    if len(layers) < 2:
        return None
    heads, note = _heads(page.frame("distribution", "by_head"))
    charts = [
        chart
        for chart in (
            _scores(page.frame("distribution", "score_histogram")),
            _lift(page.frame("positional", "lift")),
            heads,
            _types(page.frame("clustering", "pattern_types")),
            _indexer_heads(page.frame("heads", "focus")),
        )
        if chart is not None
    ]
    count = page.facts.get("attention_heads")
    return {
        "layers": layers,
        "heads": int(count) if isinstance(count, int) else 0,
        "charts": charts,
        "metrics": _packed(metrics),
        "excerpt": _excerpt(page.frame("content", "examples")),
        "notes": [note] if note else [],
    }


def _packed(frame: pl.DataFrame, digits: int = _DIGITS) -> dict[str, Any]:
    return {name: column(frame[name], digits) for name in frame.columns}


def _metrics(report: ReportInput, page: ModelPage) -> pl.DataFrame:
    """Metrics by layer, with the difference from the baseline's layer where it was measured."""
    own = report.own_metrics(page.name).filter(pl.col("layer").is_not_null() & pl.col("value").is_finite())
    differences = report.own_comparisons(page.name).select(
        "metric", "layer", "difference", difference_low="ci_low", difference_high="ci_high"
    )
    order = {name: place for place, name in enumerate(own["metric"].unique(maintain_order=True))}
    first = {name: place - len(LAYER_METRICS) for place, name in enumerate(LAYER_METRICS)}
    joined = own.select("metric", "layer", "value", "ci_low", "ci_high", "n", "unit").join(
        differences, on=["metric", "layer"], how="left"
    )
    place = pl.col("metric").replace_strict(order | {name: first[name] for name in first if name in order})
    joined = joined.with_columns(place=place) if joined.height else joined.with_columns(place=pl.lit(0))
    return joined.sort("place", "layer").drop("place")


def _scores(histogram: pl.DataFrame | None) -> Chart | None:
    if histogram is None:
        return None
    rows = histogram.filter(pl.col("layer").is_not_null() & pl.col("density").is_finite())
    return {
        "title": "Index scores of selected and unselected keys",
        "about": "Queries in effect only; the model's own unit of the score.",
        "kind": "steps",
        "x": ["left"],
        "xlabel": "index score I (the model's own unit)",
        "y": "density",
        "ylabel": "density",
        "series": "group",
        "columns": _packed(rows.sort("group", "layer", "left").select("group", "layer", "left", "density"), 3),
    }


def _lift(lift: pl.DataFrame | None) -> Chart | None:
    if lift is None:
        return None
    rows = lift.filter((pl.col("axis") == "distance") & pl.col("layer").is_not_null() & pl.col("lift").is_finite())
    if rows.is_empty():
        return None
    return {
        "title": "Positional bias of the selection",
        "about": "Selections over those expected from exposure alone: 1 is no bias. The band is the interval.",
        "kind": "line",
        "x": ["bin"],
        "xlabel": "distance from query to key (tokens)",
        "labels": "label",
        "y": "lift",
        "ylabel": "lift",
        "log": True,
        "series": "",
        "columns": _packed(rows.sort("layer", "bin").select("layer", "bin", "label", "lift", "ci_low", "ci_high", "n")),
    }


def _heads(by_head: pl.DataFrame | None) -> tuple[Chart | None, str]:
    if by_head is None:
        return None, ""
    rows = by_head.filter(pl.col("layer").is_not_null() & pl.col("value").is_not_null())
    present = rows["metric"].unique(maintain_order=True).to_list()
    wished = [*PREFERRED, *LAYER_METRICS, *present]
    ordered = [name for name in dict.fromkeys(wished) if name in present]
    each = rows.height // max(len(present), 1)
    kept = ordered[: max(1, HEAD_VALUES // max(each, 1))]
    left = [name for name in ordered if name not in kept]
    note = (
        f"Of {len(ordered)} metrics of single attention heads the page holds {len(kept)}, to stay small; the others "
        f"({', '.join(left)}) are in the table by_head of the store."
        if left
        else ""
    )
    shown = rows.filter(pl.col("metric").is_in(kept)).sort(
        pl.col("metric").replace_strict({name: place for place, name in enumerate(kept)}, default=len(kept)),
        "layer",
        "head",
    )
    chart = {
        "title": "Attention heads of the layer",
        "about": "Means over samples and positions. The chosen head is filled.",
        "kind": "dots",
        "x": ["head"],
        "xlabel": "attention head",
        "y": "value",
        "ylabel": "",
        "series": "metric",
        "choose": True,
        "meanings": {name: meaning(name) for name in kept},
        "columns": _packed(shown.select("metric", "layer", "head", "value")),
    }
    return chart, note


def _types(pattern_types: pl.DataFrame | None) -> Chart | None:
    if pattern_types is None:
        return None
    rows = pattern_types.filter(pl.col("layer").is_not_null() & (pl.col("count") > 0))
    if rows.is_empty():
        return None
    return {
        "title": "Pattern types of the layer",
        "about": "Share of the layer's rows (a row is one head on one sample) of each type, by rules.",
        "kind": "bars",
        "x": ["pattern_type"],
        "xlabel": "",
        "y": "share",
        "ylabel": "share of rows",
        "series": "",
        "columns": _packed(rows.sort("pattern_type", "layer").select("pattern_type", "layer", "share", "count")),
    }


def _indexer_heads(focus: pl.DataFrame | None) -> Chart | None:
    if focus is None:
        return None
    rows = focus.filter(pl.col("layer").is_not_null()).sort("layer", "indexer_head")
    return {
        "title": "Indexer heads of the layer",
        "about": "Share of the selected keys' score that each indexer head gives, with what it focuses on.",
        "kind": "bars",
        "x": ["indexer_head"],
        "xlabel": "indexer head",
        "y": "contribution",
        "ylabel": "share of score",
        "series": "",
        "columns": _packed(rows.select("layer", "indexer_head", "contribution", "words", "n")),
    }


def _excerpt(examples: pl.DataFrame | None) -> dict[str, Any] | None:
    """One text for each layer, of the same sample where it has one, with the selected tokens."""
    if examples is None:
        return None
    sample = (
        examples.group_by("sample").agg(pl.col("layer").n_unique()).sort("layer", "sample", descending=[True, False])
    )
    own = examples.filter(pl.col("sample") == sample["sample"][0]).sort("layer", "position")
    most = pl.col("attention").filter("selected").max().over("layer")
    shown = own.with_columns(
        token=pl.col("token").map_elements(visible, pl.String),
        weight=pl.when("selected").then((pl.col("attention") / most).sqrt()).otherwise(-1.0),
    )
    return _packed(shown.select("sample", "layer", "query", "position", "token", "weight", "recall"))
