"""Studies made of planted frames, to ask figures and answers over all models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from indexscope.analysis.report.inputs import METRICS_SCHEMA, ModelPage, ReportInput

Frames = Mapping[str, Mapping[str, pl.DataFrame]]
Value = tuple[str, int | None, float, float | None, float | None]


def study(
    models: Mapping[str, Frames], values: Mapping[str, Sequence[Value]] | None = None, leaking: Sequence[str] = ()
) -> ReportInput:
    """A study whose first model is the baseline.

    Args:
        models: Result frames by analysis and table, by model.
        values: Metrics of models: metric, layer, value, lower and upper bound.
        leaking: Models whose audit failed.
    """
    rows = [
        (name, metric, layer, value, "share", low, high, 64)
        for name, own in (values or {}).items()
        for metric, layer, value, low, high in own
    ]
    return ReportInput(
        study="planted",
        models=[
            ModelPage(name, "candidate" if place else "baseline", name, {}, frames)
            for place, (name, frames) in enumerate(models.items())
        ],
        metrics=pl.DataFrame(rows, schema=METRICS_SCHEMA, orient="row"),
        comparisons=pl.DataFrame(),
        gates=pl.DataFrame(),
        causality=pl.DataFrame({"model": list(models), "passed": [name not in leaking for name in models]}),
        provenance={},
    )


def around(metric: str, layer: int | None, value: float, half: float = 0.01) -> Value:
    """A metric with an interval of this half-width."""
    return metric, layer, value, value - half, value + half


def rings(axes: object) -> list[tuple[float, float]]:
    """Where a panel points at a value."""
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in axes.get_lines()  # type: ignore[attr-defined]
        if line.get_fillstyle() == "none"
    ]
