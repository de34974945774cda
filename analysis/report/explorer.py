"""What the page lets a reader look at one layer and one head at a time: packed once, drawn by the page's script.

Without the script the figures over all models and the tables of each remain; what is drawn here is in the stored
tables too.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from indexscope.analysis.plots.packed import column
from indexscope.analysis.report.catalogue import LAYER_METRICS
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.panelled import asked

_DIGITS = 4


def explorer_data(report: ReportInput, page: ModelPage) -> dict[str, Any] | None:
    """The data as JSON values, or None for a model of which there is nothing to draw.

    ``layers`` and ``heads``: what can be chosen. ``charts``: of the panels, with ``columns`` as `column` packs them,
    the chapter that they stand in, and whether they are of one layer. ``metrics``: columns of the layer's table.
    ``excerpt``: texts with selected tokens. ``notes``: what was left out, by chapter.
    """
    metrics = _metrics(report, page)
    told = list(asked(page))
    charts = [(panel.chapter, chart) for panel, frames in told for chart in panel.charts(frames) if chart.frame.height]
    if metrics.is_empty() and not charts:
        return None
    excerpts = ((panel.chapter, panel.excerpt(frames)) for panel, frames in told)
    excerpt = next(((chapter, found) for chapter, found in excerpts if found is not None), None)
    count = page.facts.get("attention_heads")
    return {
        "layers": metrics["layer"].unique().sort().to_list(),
        "heads": int(count) if isinstance(count, int) else 0,
        "charts": [
            {name: value for name, value in vars(chart).items() if name not in ("frame", "digits", "note")}
            | {"chapter": chapter, "layered": chart.layered, "columns": _packed(chart.frame, chart.digits)}
            for chapter, chart in charts
        ],
        "metrics": _packed(metrics),
        "excerpt": None if excerpt is None else {"chapter": excerpt[0], "columns": _packed(excerpt[1])},
        "notes": [{"chapter": chapter, "text": chart.note} for chapter, chart in charts if chart.note],
    }


def _packed(frame: pl.DataFrame, digits: int = _DIGITS) -> dict[str, Any]:
    return {name: column(frame[name], digits) for name in frame.columns}


def _metrics(report: ReportInput, page: ModelPage) -> pl.DataFrame:
    """Metrics by layer, with the difference from the baseline's layer where it was measured."""
    own = report.own_metrics(page.name).filter(pl.col("layer").is_not_null() & pl.col("value").is_finite())
    differences = report.own_comparisons(page.name).select(
        "metric", "layer", "difference", difference_low="ci_low", difference_high="ci_high"
    )
    order = {name: place for place, name in enumerate(dict.fromkeys([*LAYER_METRICS, *own["metric"]]))}
    joined = own.select("metric", "layer", "value", "ci_low", "ci_high", "n", "unit").join(
        differences, on=["metric", "layer"], how="left"
    )
    return joined.sort(pl.col("metric").replace_strict(order, return_dtype=pl.Int32), "layer")
