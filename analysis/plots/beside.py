"""Legends and colour bars around a panel, at distances in inches: the panel may have any size."""

from __future__ import annotations

from typing import Any, cast

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure, SubFigure
from matplotlib.legend import Legend
from matplotlib.transforms import Affine2DBase, Bbox, ScaledTranslation, blended_transform_factory

_THICK = 0.12
_LABELS = 0.44
"""From a panel down to below its tick labels and axis label, of one line each."""
_BAR = 0.55
"""From one colour bar below a panel to the next."""


def legend_below(axes: Axes, columns: int, middle: bool = False, **options: Any) -> Legend:
    """Hang a panel's legend below its axis label.

    Args:
        axes: The panel; its ticks are numbers in one line.
        columns: Of the legend.
        middle: Below the panel's middle, not its left edge.
        **options: Further ones of ``Axes.legend``.
    """
    return axes.legend(
        loc="upper center" if middle else "upper left",
        bbox_to_anchor=(0.5 if middle else 0.0, 0.0),
        bbox_transform=axes.transAxes + ScaledTranslation(0, -_LABELS, _inches(axes)),
        borderaxespad=0.2,
        ncols=columns,
        **options,
    )


def bar_beside(axes: Axes, mappable: ScalarMappable, **options: Any) -> Colorbar:
    """Stand a colour bar to the right of a panel.

    Args:
        axes: The panel.
        mappable: Whose colours.
        **options: Further ones of ``Figure.colorbar``.
    """
    across = _inches(axes) + ScaledTranslation(1, 0, _panel(axes))
    place = blended_transform_factory(across, axes.transAxes)
    own = axes.inset_axes((0.1, 0.0, _THICK, 1.0), transform=place)
    return _figure(axes).colorbar(mappable, cax=own, **options)


class Hanging(Axes):
    """A colour bar's own panel, below another.

    Attributes:
        room: Inches from the other down to below its tick labels and axis label; the layout measures them.
    """

    room = _LABELS


class _Below:
    """Where such a bar stands: matplotlib's axes locator."""

    def __init__(self, panel: Axes, bar: Hanging, wide: float, line: int) -> None:
        self._panel, self._bar, self._wide, self._line = panel, bar, wide, line

    def __call__(self, axes: Any, renderer: Any) -> Bbox:
        panel, figure = self._panel.get_window_extent(), _figure(self._panel)
        top = panel.y0 - (self._bar.room + 0.2 - _THICK + _BAR * self._line) * figure.dpi
        box = Bbox.from_extents(panel.x0, top - _THICK * figure.dpi, panel.x0 + self._wide * panel.width, top)
        return box.transformed(figure.transSubfigure.inverted())


def bar_below(axes: Axes, mappable: ScalarMappable, wide: float = 1.0, line: int = 0, **options: Any) -> Colorbar:
    """Lay a colour bar below a panel and its axis label.

    Args:
        axes: The panel.
        mappable: Whose colours.
        wide: Its length in widths of the panel.
        line: How many such bars are above it.
        **options: Further ones of ``Figure.colorbar``.
    """
    own = cast("Hanging", axes.inset_axes((0.0, 0.0, 1.0, 1.0), axes_class=Hanging))
    own.set_axes_locator(_Below(axes, own, wide, line))
    return _figure(axes).colorbar(mappable, cax=own, orientation="horizontal", **options)


def _figure(axes: Axes) -> Figure | SubFigure:
    figure = axes.get_figure(root=False)
    assert figure is not None
    return figure


def _inches(axes: Axes) -> Affine2DBase:
    return cast("Affine2DBase", _figure(axes).dpi_scale_trans)


def _panel(axes: Axes) -> Affine2DBase:
    return cast("Affine2DBase", axes.transAxes)
