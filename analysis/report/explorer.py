"""What the page lets a reader look at one layer and one head at a time: packed once, drawn by the page's script.

Everything here is in the static figures and tables too, there for a few layers or for all of them together; without
the script nothing is lost but the choice.
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
    """The data as JSON values, or None for a model with a single layer or without layers.

    ``layers`` and ``heads``: what can be chosen. ``charts``: of the panels, with ``columns`` as `column` packs them.
    ``metrics``: columns of the layer's table. ``excerpt``: texts with selected tokens. ``notes``: what was left out.
    """
    metrics = _metrics(report, page)
    layers = metrics["layer"].unique().sort().to_list()
    if len(layers) < 2:
        return None
    told = list(asked(page))
    charts = [chart for panel, frames in told for chart in panel.charts(frames) if chart.frame.height]
    excerpt = next((found for panel, frames in told if (found := panel.excerpt(frames)) is not None), None)
    count = page.facts.get("attention_heads")
    return {
        "layers": layers,
        "heads": int(count) if isinstance(count, int) else 0,
        "charts": [
            {name: value for name, value in vars(chart).items() if name not in ("frame", "digits", "note")}
            | {"columns": _packed(chart.frame, chart.digits)}
            for chart in charts
        ],
        "metrics": _packed(metrics),
        "excerpt": None if excerpt is None else _packed(excerpt),
        "notes": [chart.note for chart in charts if chart.note],
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
