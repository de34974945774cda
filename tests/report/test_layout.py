"""Panels leave room for their labels, and nothing lies on anything else or over the edge of its figure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.transforms import BboxBase

from indexscope.analysis.plots.beside import bar_below, bar_beside, legend_below
from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.plots.extents import POINTS, RULER
from indexscope.analysis.plots.layout import Measured
from indexscope.analysis.plots.style import drawn_into, house_style, legend_above, new_figure


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with house_style():
        yield


def laid_out(figure: Drawing) -> Drawing:
    figure.set_dpi(POINTS)
    Measured().execute(figure)
    return figure


def boxes(figure: FigureBase) -> list[BboxBase]:
    """Everything that may not lie on anything else."""
    found: list[BboxBase] = [axes.get_tightbbox(RULER) for axes in figure.axes]
    return found + [one.get_window_extent(RULER) for one in (*figure.legends, *figure.texts)]


def assert_apart(figure: FigureBase) -> None:
    whole, found = figure.bbox, boxes(figure)
    for place, one in enumerate(found):
        assert one.x0 >= whole.x0 - 0.5 and one.y0 >= whole.y0 - 0.5, one
        assert one.x1 <= whole.x1 + 0.5 and one.y1 <= whole.y1 + 0.5, one
        for other in found[place + 1 :]:
            across = min(one.x1, other.x1) - max(one.x0, other.x0)
            up = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert across < 0.5 or up < 0.5, (one, other)


def fill(axes: Axes, name: str) -> None:
    axes.plot([0, 1], [0, 1], label=name)
    axes.set_title(name)
    axes.set_xlabel("an axis label of one line")
    axes.set_ylabel("another")


def grid() -> Drawing:
    figure = new_figure(5)
    panels = figure.subplots(2, 2)
    for place, axes in enumerate(panels.flat):
        fill(axes, f"panel {place}")
    panels[0, 1].set_yticks([0, 1], ["long names of rows", "and longer ones than these"])
    panels[1, 0].set_xticks([0, 1], ["turned", "a label that is long"], rotation=40, ha="right")
    figure.suptitle("a heading")
    figure.supxlabel("what both columns show")
    legend_above(figure, panels.flat)
    return figure


def test_a_grid_has_room_for_heading_legend_and_labels_of_any_length() -> None:
    assert_apart(laid_out(grid()))


def test_panels_of_a_grid_are_as_wide_and_high_as_each_other() -> None:
    places = [axes.get_position() for axes in laid_out(grid()).axes]
    assert [place.width for place in places] == pytest.approx([places[0].width] * 4)
    assert [place.height for place in places] == pytest.approx([places[0].height] * 4)


def test_a_label_stands_beside_its_tick_labels_whatever_ticks_the_final_height_gives() -> None:
    apart = []
    for highest in np.linspace(2.6, 6.4, 20):
        for height in (4.4, 5.6, 6.35, 7.0):
            figure = new_figure(height)
            for axes in figure.subplots(3, 3, squeeze=False).flat:
                axes.plot([0, 1], [2.2, highest])
                axes.set_ylabel("nats")
            for axes in laid_out(figure).axes:
                label, ticks = axes.yaxis.label.get_window_extent(RULER), axes.yaxis.get_ticklabels()
                low, high = axes.get_ylim()
                shown = [one for one in ticks if low <= one.get_position()[1] <= high]
                apart.append(min(one.get_window_extent(RULER).x0 for one in shown) - label.x1)
    assert min(apart) > 1.0


def test_laid_out_again_it_stays_as_it_is() -> None:
    figure = laid_out(grid())
    before = [box.extents for box in boxes(figure)]
    laid_out(figure)
    assert np.allclose(before, [box.extents for box in boxes(figure)], atol=0.01)


def test_the_resolution_moves_nothing() -> None:
    figure = grid()
    figure.set_dpi(200)
    Measured().execute(figure)
    assert figure.get_dpi() == 200
    wanted = [axes.get_position().extents for axes in laid_out(grid()).axes]
    assert np.allclose(wanted, [axes.get_position().extents for axes in figure.axes])


@pytest.mark.parametrize("aspect", ["auto", "equal"])
def test_colour_bars_and_hanging_legends_stay_clear_of_the_next_panel(aspect: str) -> None:
    figure = new_figure(3.5)
    panels = figure.subplots(1, 3)
    for axes in panels:
        image = axes.imshow(np.eye(5), aspect=aspect)
        axes.plot([1], [1], label="one")
        axes.set_xlabel("layer")
    bar_beside(panels[0], image, label="beside")
    bar_below(panels[1], image).set_label("below")
    legend_below(panels[2], 2)
    assert_apart(laid_out(figure))


def test_matplotlibs_own_colour_bar_keeps_its_part_of_the_cell() -> None:
    figure = new_figure(3)
    for axes in figure.subplots(1, 2):
        figure.colorbar(axes.imshow(np.eye(5), aspect="auto"), ax=axes, label="its own")
    assert_apart(laid_out(figure))


def test_a_title_stands_above_the_power_of_its_axis() -> None:
    figure = new_figure(2.5)
    axes = figure.subplots()
    fill(axes, "a title")
    axes.plot([0, 1], [0, 3e-9])
    axes.set_ylim(0, 3e-9)
    laid_out(figure)
    axes.get_tightbbox(RULER)  # drawing puts the power where the panel stands now
    power, title = axes.yaxis.get_offset_text(), axes.get_title(loc="left")
    (drawn,) = [one for one in axes.get_children() if getattr(one, "get_text", str)() == title]
    assert power.get_text() and drawn.get_window_extent(RULER).y0 >= power.get_window_extent(RULER).y1
    assert_apart(figure)


def test_a_label_longer_than_its_panel_does_not_reach_the_legend_above() -> None:
    figure = new_figure(2.2)
    axes = figure.subplots()
    fill(axes, "")
    axes.plot([0, 1], [1, 0], label="a line")
    axes.set_ylabel("a label longer than its panel")
    legend_above(figure, [axes])
    laid_out(figure)
    assert axes.yaxis.label.get_window_extent(RULER).height > axes.get_window_extent().height
    assert_apart(figure)


def test_parts_of_a_figure_are_laid_out_each_in_its_place() -> None:
    whole = Drawing(figsize=(9, 8), layout=Measured())
    for part in whole.subfigures(2, 1):
        with drawn_into(part):
            grid()
    laid_out(whole)
    for part in whole.subfigs:
        assert_apart(part)


def test_a_colour_bar_hangs_below_tick_labels_of_any_length() -> None:
    figure = new_figure(5)
    axes = figure.subplots()
    image = axes.imshow(np.eye(3), aspect="equal")
    axes.set_xticks(range(3), ["one", "a label that is rather long", "two"], rotation=90)
    axes.set_xlabel("key (token)")
    bar = bar_below(axes, image, label="attention")
    laid_out(figure)
    lowest = min(text.get_window_extent(RULER).y0 for text in (*axes.get_xticklabels(), axes.xaxis.label))
    box = bar.ax.get_tightbbox(RULER)
    assert box.y1 <= lowest and box.y0 >= 0


@pytest.mark.parametrize("count", [1, 6])
def test_the_label_of_a_colour_bar_stands_beside_its_tick_labels(count: int) -> None:
    figure = new_figure(2.3)
    panels = np.ravel(figure.subplots(1, count))
    image = None
    for axes in panels:
        image = axes.imshow(np.eye(4), vmin=-1, vmax=1, aspect="equal")
        axes.set_title("layer")
    assert image is not None
    bar = bar_beside(panels[-1], image, label="correlation")
    laid_out(figure)
    bar.ax.apply_aspect(bar.ax.get_axes_locator()(bar.ax, RULER))
    right = max(text.get_window_extent(RULER).x1 for text in bar.ax.get_yticklabels())
    assert right <= bar.ax.yaxis.label.get_window_extent(RULER).x0 <= right + 8
