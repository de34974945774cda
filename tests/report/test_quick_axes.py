"""Axes that draw all ticks with one: the picture is matplotlib's, in fewer steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axis import Tick
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from indexscope.analysis.plots import quick_axes
from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.plots.quick_axes import QuickAxes
from indexscope.analysis.plots.style import house_style, new_figure, styled
from indexscope.analysis.plots.svg import to_svg


def lines(figure: Any) -> None:
    left, right = figure.subplots(1, 2, sharey=True)
    left.plot([1, 2, 30], [0.2, 1e5, 3.0], marker="o", label="a line")
    left.set(xlabel="across", ylabel="upwards", title="left")
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.plot([1, 4, 512], [1, 30, 2e5])
    right.tick_params(axis="x", labelrotation=38)
    right.set_xlabel("powers of two")
    figure.legend(loc="outside upper left")


def maps(figure: Any) -> None:
    grid = figure.subplots(1, 2)
    for axes, aspect in zip(grid, ("auto", "equal"), strict=True):
        picture = axes.imshow(np.arange(12.0).reshape(3, 4), aspect=aspect)
        axes.set_xticks(range(4), ["one", "a longer name", "three", "four"], rotation=40, ha="right", fontsize=7)
        axes.set_yticks([])
        axes.grid(visible=False)
        figure.colorbar(picture, ax=axes).set_label("scale")


def words(figure: Any) -> None:
    axes = figure.subplots()
    axes.plot([0, 1], [1e-9, 3e-9])
    axes.annotate("beside it", (1.0, 2e-9), xytext=(40, 0), textcoords="offset points", annotation_clip=False)
    axes.xaxis.tick_top()
    axes.set_title("over ticks")
    axes.legend(["below"], loc="upper left", bbox_to_anchor=(0, -0.17))


def single(figure: Any) -> None:
    axes = figure.subplots()
    axes.plot([0, 1, 2], [0, 1, 2])
    axes.get_xticklabels()[1].set_color("red")
    axes.yaxis.get_major_ticks()[0].gridline.set_linewidth(4)


def pixels(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).astype(int)


@pytest.mark.parametrize("draw", [lines, maps, words, single])
def test_picture_is_matplotlibs(draw: Callable[[Any], None]) -> None:
    with house_style():
        stock, ours = Figure(figsize=(9.2, 3), layout="constrained"), new_figure(3)
        draw(stock)
        draw(ours)
        assert any(isinstance(axes, QuickAxes) for axes in ours.axes)
        wanted, found = pixels(stock), pixels(ours)
    assert np.mean(wanted[..., 0] < 255) > 0.01
    assert np.mean(np.abs(wanted - found).max(-1) > 32) < 0.002


def test_one_tick_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Tick] = []
    monkeypatch.setattr(quick_axes._AllTicks, "__init__", _counted(quick_axes._AllTicks.__init__, made), raising=True)
    with house_style():
        figure = new_figure(3)
        lines(figure)
        svg = to_svg(figure, "one", "one")
    assert svg.count("<text") > 15
    assert len(made) <= 4 * len(figure.axes)


def _counted(make: Callable[..., None], made: list[Tick]) -> Callable[..., None]:
    def counted(self: Tick, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        make(self, *args, **kwargs)

    return counted


def test_figure_keeps_the_house_style_when_it_is_saved_outside_of_it() -> None:
    @styled
    def draw() -> Drawing:
        figure = new_figure(3)
        lines(figure)
        return figure

    inside = draw()
    with house_style():
        wanted = pixels(inside)
    assert np.array_equal(pixels(draw()), wanted)


def test_changed_labels_are_laid_out_anew() -> None:
    with house_style():
        figure = new_figure(3)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1])
        pixels(figure)
        before = axes.get_position().x0
        axes.set_yticks([0, 1], ["no", "a much longer name of a tick"])
        pixels(figure)
        assert axes.get_position().x0 > before + 0.05
