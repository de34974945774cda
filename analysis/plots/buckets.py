"""How metrics change with the query's position, which is where sparse attention begins to matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
from matplotlib.figure import Figure

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest, values
from indexscope.analysis.plots.style import legend_above, look, new_figure, short_labels, styled

PREFERRED = ("selection_recall", "normalized_entropy", "sparsity_ratio", "nll")


@styled
def metrics_by_position(
    frames: Mapping[str, pl.DataFrame],
    models: Sequence[str],
    units: Mapping[str, str],
    metrics: Sequence[str] = PREFERRED,
) -> Figure | None:
    """One panel per metric over the power-of-two buckets of the query's position, one line per model.

    Args:
        frames: Model name to its ``by_bucket`` frame (metric, layer, bucket, value, n).
        models: Names in report order.
        units: Unit of each metric.
        metrics: What to draw, in order; those that no model has are left out.

    Returns:
        The figure, or None where nothing can be drawn.
    """
    present = [metric for metric in metrics if any(_rows(frame, metric).height for frame in frames.values())]
    if not present:
        return None
    columns = min(2, len(present))
    height = -(-len(present) // columns)
    figure = new_figure(2.15 * height + 0.55)
    grid = figure.subplots(height, columns, squeeze=False)
    labels = short_labels(list(models))
    for axes, metric in zip(grid.flat, present, strict=False):
        ticks: set[int] = set()
        for index, name in enumerate(models):
            rows = _rows(frames[name], metric) if name in frames else pl.DataFrame()
            if rows.is_empty():
                continue
            style = look(index)
            axes.plot(
                values(rows, "bucket"),
                values(rows, "value"),
                color=style.colour,
                marker=style.marker,
                linestyle=style.line,
                label=labels[name],
            )
            note(axes, rows, "bucket", "value", panel=metric, series=name, unit=units.get(metric))
            ticks |= set(rows["bucket"].to_list())
        axes.set_title(f"{metric} ({units.get(metric, 'unit not stated')})")
        ordered = sorted(ticks)
        axes.set_xticks(ordered, [f"{2**bucket:,}" for bucket in ordered])
    for axes in grid.flat[len(present) :]:
        axes.remove()
    samples = max((largest(frame, "n") for frame in frames.values()), default=0)
    below = f"query position in tokens, first of its power-of-two bucket (n = {samples} samples)"
    figure.supxlabel(below, fontsize=9)
    legend_above(figure, grid.flat)
    return figure


def _rows(frame: pl.DataFrame, metric: str) -> pl.DataFrame:
    return frame.filter((pl.col("metric") == metric) & pl.col("layer").is_null() & pl.col("value").is_finite()).sort(
        "bucket"
    )
