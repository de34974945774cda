"""Where the panels of a figure stand: margins as wide as their labels, measured once.

Matplotlib's constrained layout solves for the same margins, but measures every label six times for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.layout_engine import LayoutEngine
from matplotlib.transforms import Bbox

from indexscope.analysis.plots.drawing import Array
from indexscope.analysis.plots.extents import POINTS, RULER, Reach, reach

Place = Figure | SubFigure

EDGE = 3.0
"""Points between what is drawn and the edge of its figure."""
GAP = 9.0
"""Points between what surrounds one panel and what surrounds the next."""
# Panels stand so when they are measured: how many ticks an axis has depends on its length.
_ROUGHLY = Reach(left=40.0, right=6.0, below=30.0, above=16.0)


class Measured(LayoutEngine):
    """Put every panel of a figure, and of the parts of a figure, into what its labels and those beside it leave."""

    # What matplotlib asks an engine for: these two are how its documentation has one written.
    _adjust_compatible = False
    _colorbar_gridspec = True

    def execute(self, fig: Figure) -> None:
        """Place all panels, headings and legends."""
        dpi = fig.get_dpi()
        fig.set_dpi(POINTS)
        try:
            places: list[Place] = [fig, *fig.subfigs]
            for figure in places:
                _place(figure)
        finally:
            fig.set_dpi(dpi)


def _place(figure: Place) -> None:
    grids: dict[GridSpec, list[Axes]] = {}
    for axes in figure.axes:
        if axes.get_figure(root=False) is figure and axes.get_visible() and (spec := _cell(axes)) is not None:
            grids.setdefault(spec.get_gridspec(), []).append(axes)  # type: ignore[arg-type]
    if not grids:
        return
    inside = _around(figure)
    for grid, panels in grids.items():
        _put(figure, grid, panels, inside, dict.fromkeys(panels, _ROUGHLY))
        around = {axes: _measured(figure, axes) for axes in panels}
        ticks = {axes: _ticks(axes) for axes in panels}
        _put(figure, grid, panels, inside, around)
        if others := [axes for axes in panels if _ticks(axes) != ticks[axes]]:  # 2.5 is wider than the 2 of before
            _put(figure, grid, panels, inside, around | {axes: _measured(figure, axes) for axes in others})
        for axes in panels:
            _lower(axes)


def _ticks(axes: Axes) -> tuple[list[float], list[float]]:
    """Where an axis has its ticks, which depends on its length."""
    return axes.xaxis.get_majorticklocs().tolist(), axes.yaxis.get_majorticklocs().tolist()


def _cell(axes: Axes) -> SubplotSpec | None:
    spec = axes.get_subplotspec()
    return None if spec is None else spec.get_topmost_subplotspec()


def _around(figure: Place) -> Bbox:
    """Put headings and legends to the edges of a figure; what they leave of it, in points from its lower left."""
    width, height = figure.bbox.size
    low, high = EDGE, height - EDGE
    for text in figure.texts:
        x, y = text.get_position()
        size = text.get_window_extent(RULER).height
        if y > 0.5:
            text.set_position((x, high / height))
            high -= size + 2 * EDGE
        else:
            text.set_position((x, low / height))
            low += size + EDGE
    for legend in figure.legends:
        box = legend.get_window_extent(RULER)
        legend.set_bbox_to_anchor((0.0, low / height, 1.0, (high - low) / height), figure.transSubfigure)
        if box.y0 + box.y1 > height:
            high -= box.height + 2 * EDGE
        else:
            low += box.height + 2 * EDGE
    return Bbox.from_extents(EDGE, low, width - EDGE, high)


def _put(figure: Place, grid: GridSpec, panels: Sequence[Axes], inside: Bbox, around: Mapping[Axes, Reach]) -> None:
    """Give each panel its place in the grid, where its row and column have room for what is around."""
    rows, columns = grid.get_geometry()
    left, right = np.zeros(columns), np.zeros(columns)
    above, below = np.zeros(rows), np.zeros(rows)
    for axes in panels:
        spec, found = _cell(axes), around[axes]
        assert spec is not None
        for margins, at, size in (
            (left, spec.colspan.start, found.left),
            (right, spec.colspan.stop - 1, found.right),
            (above, spec.rowspan.start, found.above),
            (below, spec.rowspan.stop - 1, found.below),
        ):
            margins[at] = max(margins[at], size)
    starts, ends = _spread(inside.width, left, right, grid.get_width_ratios())
    tops, bottoms = _spread(inside.height, above, below, grid.get_height_ratios())
    width, height = figure.bbox.size
    for axes in panels:
        own, spec = axes.get_subplotspec(), _cell(axes)
        assert own is not None and spec is not None
        x0, x1 = inside.x0 + starts[spec.colspan.start], inside.x0 + ends[spec.colspan.stop - 1]
        y0, y1 = inside.y1 - bottoms[spec.rowspan.stop - 1], inside.y1 - tops[spec.rowspan.start]
        # A panel that shares its cell with a colour bar takes the same part of it as before.
        part, whole = own.get_position(figure), spec.get_position(figure)  # type: ignore[arg-type]
        across, up = (x1 - x0) / whole.width, (y1 - y0) / whole.height
        axes.set_position(
            (
                (x0 + (part.x0 - whole.x0) * across) / width,
                (y0 + (part.y0 - whole.y0) * up) / height,
                part.width * across / width,
                part.height * up / height,
            )
        )


def _spread(size: float, before: Array, after: Array, ratios: Any) -> tuple[Array, Array]:
    """Starts and ends of the rows or columns of a grid: sizes in the ratio asked for, margins between them."""
    room = size - before.sum() - after.sum() - GAP * (len(before) - 1)
    sizes = max(room, 0.1 * size) * np.asarray(ratios, np.float64) / np.sum(ratios)
    starts = np.cumsum(before + np.concatenate([[0.0], (sizes + after + GAP)[:-1]]))
    return starts, starts + sizes


def _measured(figure: Place, axes: Axes) -> Reach:
    """What is around a panel; of one that shares its cell, what of that reaches out of the cell."""
    axes.apply_aspect()
    found, own, cell = reach(axes), axes.get_subplotspec(), _cell(axes)
    if own is cell or own is None or cell is None:
        return found
    part, whole = own.get_position(figure), cell.get_position(figure)  # type: ignore[arg-type]
    box = axes.get_position(original=True).transformed(figure.transSubfigure)
    across, up = box.width / part.width, box.height / part.height
    return Reach(
        max(0.0, found.left - (part.x0 - whole.x0) * across),
        max(0.0, found.right - (whole.x1 - part.x1) * across),
        max(0.0, found.below - (part.y0 - whole.y0) * up),
        max(0.0, found.above - (whole.y1 - part.y1) * up),
    )


def _lower(axes: Axes) -> None:
    """Have an upright label that is longer than its panel reach below it: above may be a legend."""
    length, height = axes.yaxis.label.get_window_extent(RULER).height, axes.get_window_extent().height
    if axes.yaxis.label.get_text() and length > height:
        axes.yaxis.label.set_y(1 - length / (2 * height))
