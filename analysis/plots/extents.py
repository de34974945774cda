"""How far what belongs to a panel reaches beyond it: tick labels, axis labels, title, legend, notes and colour bars."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import NamedTuple, cast

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator
from matplotlib.transforms import Bbox, BboxBase, ScaledTranslation

from indexscope.analysis.plots.beside import Hanging

POINTS = 72.0
"""Points per inch, and the resolution at which all is measured: a pixel is a point."""
# It draws nothing. One for all figures, so that matplotlib remembers from one to the next how wide a text is.
RULER = RendererSVG(1.0, 1.0, io.StringIO())  # type: ignore[no-untyped-call]


class Reach(NamedTuple):
    """Points beyond each side of a panel, none of them negative."""

    left: float = 0.0
    right: float = 0.0
    below: float = 0.0
    above: float = 0.0

    def joined(self, other: Reach) -> Reach:
        """What holds both."""
        return Reach(*map(max, self, other))


def beyond(own: BboxBase, boxes: Iterable[BboxBase]) -> Reach:
    """How far boxes reach beyond one."""
    found = Reach()
    for box in boxes:
        found = found.joined(Reach(own.x0 - box.x0, box.x1 - own.x1, own.y0 - box.y0, box.y1 - own.y1))
    return found


def reach(axes: Axes) -> Reach:
    """Measure what surrounds a panel, and fix its axis labels beyond its tick labels: drawing need not look again.

    The lengths of axis labels and titles along their side are not counted: another place would not make them fit.
    """
    own = axes.get_window_extent()
    found = Reach()
    if axes.axison:
        found = _axis(axes, axes.xaxis, own).joined(_axis(axes, axes.yaxis, own))
    for child in axes.child_axes:
        if isinstance(child, Hanging):
            child.room = max(child.room, found.below / POINTS)
    power = axes.yaxis.get_offset_text()  # what the numbers are to be multiplied by stands where a title begins
    raised = beyond(own, [power.get_window_extent(RULER)]).above if power.get_visible() and power.get_text() else 0.0
    for text in axes.get_children():
        if isinstance(text, Text) and text.get_visible() and text.get_text():
            title = text not in axes.texts
            if title:
                text.set_y(1 + raised / own.height)
            around = beyond(own, [text.get_window_extent(RULER)])
            found = found.joined(Reach(above=around.above) if title else around)
    legend = axes.get_legend()
    others = [legend.get_window_extent(RULER)] if legend is not None else []
    found = found.joined(beyond(own, others))
    for child in axes.child_axes:
        box = _surrounded(cast("Axes", child))
        around = beyond(own, [box])
        # A bar below may be as long as several panels.
        found = found.joined(Reach(below=around.below) if box.y1 <= own.y0 else around)
    return found


def _surrounded(axes: Axes) -> Bbox:
    """A panel that stands in another, a colour bar mostly, with its surroundings."""
    locator = axes.get_axes_locator()
    axes.apply_aspect(locator(axes, RULER) if locator is not None else None)
    # Its label stands beyond these tick labels, whatever length it ends with.
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(axis.get_majorticklocs().tolist()))
    around, own = reach(axes), axes.get_window_extent()
    return Bbox.from_extents(own.x0 - around.left, own.y0 - around.below, own.x1 + around.right, own.y1 + around.above)


def _axis(axes: Axes, axis: Axis, own: BboxBase) -> Reach:
    """Of tick labels and label; the label is put at its distance from the tick labels."""
    label = axis.label
    shown = bool(label.get_text()) and label.get_visible()
    x, y = label.get_position()
    axis.set_label_coords(x, y)  # whatever it is: without one, matplotlib looks for it each time that it measures
    label.set_visible(False)
    ticks = axis.get_tightbbox(RULER)
    label.set_visible(shown)
    found = Reach() if ticks is None else beyond(own, [ticks])
    if not shown:
        return found
    side = axis.get_label_position()
    far = {"left": found.left, "right": found.right, "bottom": found.below, "top": found.above}[side]
    far = (far + axis.labelpad) / POINTS
    across, up = {"left": (-far, 0.0), "right": (far, 0.0), "bottom": (0.0, -far), "top": (0.0, far)}[side]
    at = {"left": (0.0, y), "right": (1.0, y), "bottom": (x, 0.0), "top": (x, 1.0)}[side]
    scale = axes.get_figure(root=True).dpi_scale_trans  # type: ignore[union-attr]
    axis.set_label_coords(*at, transform=axes.transAxes + ScaledTranslation(across, up, scale))
    box = beyond(own, [label.get_window_extent(RULER)])
    upright = side in ("left", "right")
    return found.joined(Reach(left=box.left, right=box.right) if upright else Reach(below=box.below, above=box.above))
