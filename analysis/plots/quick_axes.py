"""Axes that draw and measure all ticks of an axis with one of them, to the same picture as matplotlib's own.

A tick of matplotlib is three lines and two texts, which are made, copied and measured a dozen times each until a
figure is drawn: half of the time that a report took. An axis of which somebody has asked for single ticks, to change
them, is drawn by matplotlib's own code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, Tick, XAxis, XTick, YAxis, YTick
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import Formatter, NullLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

Array = NDArray[np.float64]

_KINDS = ("majorTicks", "minorTicks")
_MOST_LAYOUTS = 4096
_layouts: dict[tuple[Any, ...], Any] = {}


class _AllTicks(Tick):
    """One tick that stands for several.

    Attributes:
        along: Which coordinate tells them apart: 0 of an x-axis, 1 of a y-axis.
        places: Where they stand, in data coordinates; None of a single tick.
        words: What their labels say.
    """

    along: int
    places: Array | None = None
    words: Sequence[str] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        remember(self.label1, self.label2)

    def draw(self, renderer: Any) -> None:
        """Draw all of them: their grid is one line with gaps, their marks are one series of markers."""
        if self.places is None:
            super().draw(renderer)
            return
        renderer.open_group(self.__name__, gid=self.get_gid())  # type: ignore[attr-defined]
        count = len(self.places)
        self._draw_line(self.gridline, np.repeat(self.places, 3), np.tile([0.0, 1.0, np.nan], count), renderer)
        self._draw_line(self.tick1line, self.places, np.zeros(count), renderer)
        self._draw_line(self.tick2line, self.places, np.ones(count), renderer)
        for label in (self.label1, self.label2):
            if label.get_visible():
                for place, words in zip(self.places.tolist(), self.words, strict=True):
                    (label.set_y if self.along else label.set_x)(place)
                    label.set_text(words)
                    label.draw(renderer)
        renderer.close_group(self.__name__)  # type: ignore[attr-defined]
        self.stale = False

    def boxes(self, label: Text, renderer: Any) -> list[Bbox]:
        """What the labels of one side fill together, in display coordinates."""
        if self.places is None or not label.get_visible() or not label.get_in_layout():
            return []
        points = np.tile(np.array(label.get_position(), np.float64), (len(self.places), 1))
        points[:, self.along] = self.places
        corners = np.tile(label.get_transform().transform(points), 2)
        for place, words in enumerate(self.words):
            if words:
                label.set_text(words)
                corners[place] += label._get_layout(renderer)[0].extents  # type: ignore[attr-defined]
        corners = corners[np.isfinite(corners).all(1)]
        return [Bbox.from_extents(*corners[:, :2].min(0), *corners[:, 2:].max(0))] if len(corners) else []

    def _draw_line(self, line: Line2D, along: Array, ends: Array, renderer: Any) -> None:
        if line.get_visible():
            kept = line.get_data(orig=True)
            line.set_data(*((ends, along) if self.along else (along, ends)))
            line.draw(renderer)
            line.set_data(*kept)


class _XTicks(_AllTicks, XTick):
    along = 0


class _YTicks(_AllTicks, YTick):
    along = 1


class _QuickAxis(Axis):
    """An axis with one tick that stands for all major ones, and one for the minor ones."""

    _held: list[_AllTicks] | None = None
    _all_at_once = False

    def draw(self, renderer: Any) -> None:
        """Draw it."""
        with self.holding():
            super().draw(renderer)

    def get_tightbbox(self, renderer: Any = None, *, for_layout_only: bool = False) -> Any:
        """What it fills."""
        with self.holding():
            return super().get_tightbbox(renderer, for_layout_only=for_layout_only)

    @property
    def words(self) -> list[Any]:
        """What its labels say, and how they look."""
        return [[*tick.words, hash(tick.label1.get_fontproperties())] for tick in self._update_ticks()]

    @property
    def marks(self) -> tuple[float, float]:
        """How far its ticks reach out of the panel, at the bottom or left and at the top or right, in pixels."""
        reach = [0.0, 0.0]
        for tick in self._update_ticks():
            for side, line in enumerate((tick.tick1line, tick.tick2line)):
                if line.get_visible():
                    reach[side] = max(reach[side], tick.get_tick_padding() * self._scale_of_points)
        return reach[0], reach[1]

    @property
    def _scale_of_points(self) -> float:
        """Pixels a point."""
        return float(self.get_figure(root=True).dpi) / 72  # type: ignore[union-attr]

    def set_ticklabels(self, labels: Any, **kwargs: Any) -> Any:
        """Say what the ticks are called; properties are of all labels."""
        with self._of_all():
            return super().set_ticklabels(labels, **kwargs)

    def set_ticks(self, ticks: Any, labels: Any = None, **kwargs: Any) -> Any:
        """Say where the ticks are, and what they are called."""
        with self._of_all():
            return super().set_ticks(ticks, labels, **kwargs)

    def get_major_ticks(self, numticks: int | None = None) -> list[Tick]:
        """Single ticks, which make matplotlib draw them."""
        return super().get_major_ticks(1 if self._all_at_once else numticks)

    def get_minor_ticks(self, numticks: int | None = None) -> list[Tick]:
        """Single ticks, which make matplotlib draw them."""
        return super().get_minor_ticks(1 if self._all_at_once else numticks)

    def set_clip_path(self, path: Any, transform: Any = None) -> None:
        """Clip what is drawn."""
        with self._of_none():
            super().set_clip_path(path, transform)

    def set_tick_params(self, *args: Any, **kwargs: Any) -> None:
        """Say how all ticks look."""
        with self._of_none():
            super().set_tick_params(*args, **kwargs)

    def settle(self) -> None:
        """Make the ticks that stand for all, in the style of this moment."""
        for ticker, kind in zip((self.major, self.minor), _KINDS, strict=True):
            if not isinstance(ticker.locator, NullLocator):
                getattr(self, kind)

    @contextmanager
    def _of_none(self) -> Iterator[None]:
        """Make no tick in the block for the sake of setting something of it: what is made later has it all."""
        absent = [kind for kind in _KINDS if kind not in self.__dict__]
        self.__dict__.update({kind: [] for kind in absent})
        try:
            yield
        finally:
            for kind in absent:
                self.__dict__.pop(kind, None)

    def _get_tick(self, major: bool) -> Tick:
        tick: Tick = super()._get_tick(major)  # type: ignore[misc]
        tick.set_clip_path(self.axes.patch)
        return tick

    @contextmanager
    def _of_all(self) -> Iterator[None]:
        """Whatever is set of the ticks in the block is set of all of them."""
        self._all_at_once = True
        try:
            yield
        finally:
            self._all_at_once = False

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Look for ticks once in the block: nothing moves there."""
        outer = self._held
        if outer is None and not self._asked_for:
            self._held = self._found()
        try:
            yield
        finally:
            self._held = outer

    @property
    def _asked_for(self) -> bool:
        """Whether there are single ticks."""
        return any(len(self.__dict__.get(name, ())) > 1 for name in _KINDS)

    def _update_ticks(self) -> list[Any]:
        if self._asked_for:
            for tick in cast("list[_AllTicks]", [*self.majorTicks, *self.minorTicks]):
                tick.places = None
            return super()._update_ticks()  # type: ignore[misc,no-any-return]
        return self._found() if self._held is None else list(self._held)

    def _found(self) -> list[_AllTicks]:
        found = []
        for ticker, kind, looks in (
            (self.major, _KINDS[0], self._major_tick_kw),  # type: ignore[attr-defined]
            (self.minor, _KINDS[1], self._minor_tick_kw),  # type: ignore[attr-defined]
        ):
            if isinstance(ticker.locator, NullLocator) or not self._tick_group_visible(looks):  # type: ignore[attr-defined]
                continue
            located = self.get_majorticklocs() if ticker is self.major else self.get_minorticklocs()
            places, formatter = np.asarray(located, np.float64), cast("Formatter", ticker.formatter)
            words = formatter.format_ticks(located)  # type: ignore[arg-type]
            inside = self._inside(places)
            if inside.any():
                (tick,) = cast("list[_AllTicks]", getattr(self, kind))
                tick.places = places[inside]
                tick.words = [text for text, shown in zip(words, inside, strict=True) if shown]
                found.append(tick)
        return found

    def _inside(self, places: Array) -> NDArray[np.bool_]:
        """Which places are within the limits, as `matplotlib.transforms._interval_contains_close` has it."""
        if not places.size:
            return np.zeros(0, bool)
        transform = self.get_transform()
        low, high = np.sort(transform.transform(np.array(self.get_view_interval(), np.float64)))
        slack = (high - low) * 1e-10
        at = transform.transform(places)
        return np.asarray((low - slack <= at) & (at <= high + slack), bool)

    def _get_ticklabel_bboxes(self, ticks: Iterable[Any], renderer: Any) -> tuple[list[Bbox], list[Bbox]]:
        if self._asked_for:
            return super()._get_ticklabel_bboxes(ticks, renderer)  # type: ignore[misc,no-any-return]
        own = list(ticks)
        return (
            [box for tick in own for box in tick.boxes(tick.label1, renderer)],
            [box for tick in own for box in tick.boxes(tick.label2, renderer)],
        )


class _QuickXAxis(_QuickAxis, XAxis):
    _tick_class = _XTicks

    def _update_label_position(self, renderer: Any) -> None:
        if self.label_position != "bottom" or not self._autolabelpos or self._asked_for:  # type: ignore[attr-defined]
            super()._update_label_position(renderer)  # type: ignore[misc]
        elif self.label.get_text():
            boxes = self._get_tick_boxes_siblings(renderer)[0]  # type: ignore[attr-defined]
            edge = min([self.axes.bbox.y0 - self.marks[0], *(box.y0 for box in boxes)])
            self.label.set_y(edge - self.labelpad * self._scale_of_points)


class _QuickYAxis(_QuickAxis, YAxis):
    _tick_class = _YTicks

    def _update_label_position(self, renderer: Any) -> None:
        if self.label_position != "left" or not self._autolabelpos or self._asked_for:  # type: ignore[attr-defined]
            super()._update_label_position(renderer)  # type: ignore[misc]
        elif self.label.get_text():
            boxes = self._get_tick_boxes_siblings(renderer)[0]  # type: ignore[attr-defined]
            edge = min([self.axes.bbox.x0 - self.marks[0], *(box.x0 for box in boxes)])
            self.label.set_x(edge - self.labelpad * self._scale_of_points)


class QuickAxes(Axes):
    """Axes of which a figure may hold many."""

    def settle(self) -> None:
        """Keep the style of this moment for all that will be drawn."""
        self.xaxis.settle()
        self.yaxis.settle()

    _margins: tuple[Any, tuple[float, float, float, float]] | None = None

    def get_tightbbox(self, renderer: Any = None, **kwargs: Any) -> Any:
        """What they fill, in display coordinates."""
        if kwargs.get("bbox_extra_artists") is not None or not (self.get_visible() and self.axison):
            return super().get_tightbbox(renderer, **kwargs)
        if not self._stays:
            locator = self.get_axes_locator()
            self.apply_aspect(None if locator is None else locator(self, renderer))
        with self.xaxis.holding(), self.yaxis.holding():
            return self._measured(renderer, kwargs)

    @property
    def _stays(self) -> bool:
        """Whether they are as large as the layout makes them."""
        return self.get_aspect() == "auto" and self.get_axes_locator() is None

    def _measured(self, renderer: Any, kwargs: dict[str, Any]) -> Bbox:
        frame = (*self.spines.values(), self.patch)
        beyond = [one for one in self.get_default_bbox_extra_artists() if one not in frame]
        labelled = (kwargs, self.get_title("left"), self.xaxis.words, self.yaxis.words)
        if self._stays and not beyond and self._margins is not None and self._margins[0] == labelled:
            return _grown(self.bbox.extents, self._margins[1])  # moved by the layout, with all around them
        own = super().get_tightbbox(renderer, **{**kwargs, "bbox_extra_artists": beyond})
        ticked = _grown(self.bbox.extents, (*self.yaxis.marks, *self.xaxis.marks))
        box = ticked if own is None else Bbox.union([own, ticked])
        left, low, right, high = self.bbox.extents
        self._margins = labelled, (left - box.x0, box.x1 - right, low - box.y0, box.y1 - high)
        return box

    def draw(self, renderer: Any) -> None:
        """Draw them."""
        self._margins = None
        with ExitStack() as held:
            for axis in (self.xaxis, self.yaxis) if self._stays else ():
                held.enter_context(axis.holding())
            super().draw(renderer)

    def _update_title_position(self, renderer: Any) -> None:
        """Keep the title where it stands unless something is between it and the panel."""
        above = self.xaxis.get_ticks_position() in ("top", "unknown") or self.xaxis.get_label_position() == "top"
        over = above or cast("Formatter", self.yaxis.major.formatter).get_offset()
        if over or self.child_axes or len(self._twinned_axes.get_siblings(self)) > 1:  # type: ignore[attr-defined]
            super()._update_title_position(renderer)  # type: ignore[misc]

    def _init_axis(self) -> None:
        self.xaxis: _QuickXAxis = _QuickXAxis(self, clear=False)
        self.spines.bottom.register_axis(self.xaxis)
        self.spines.top.register_axis(self.xaxis)
        self.yaxis: _QuickYAxis = _QuickYAxis(self, clear=False)
        remember(self.xaxis.label, self.yaxis.label)
        self.spines.left.register_axis(self.yaxis)
        self.spines.right.register_axis(self.yaxis)


def _grown(extents: Any, by: Sequence[float]) -> Bbox:
    """A box with more at its left, right, bottom and top."""
    left, low, right, high = extents
    return Bbox.from_extents(left - by[0], low - by[2], right + by[1], high + by[3])


def remember(*texts: Text) -> None:
    """Lay texts out once for all figures that hold the same: each is measured several times until it is drawn."""
    for text in texts:
        text._get_layout = partial(_known_layout, text)  # type: ignore[attr-defined]


def _known_layout(label: Text, renderer: Any) -> Any:
    """How a text lies around its place, which the labels of many ticks and figures have in common."""
    if label.get_wrap():
        return Text._get_layout(label, renderer)  # type: ignore[attr-defined]
    key = (
        type(renderer),
        label.get_figure(root=True).dpi,  # type: ignore[union-attr]
        label.get_text(),
        hash(label.get_fontproperties()),
        label.get_horizontalalignment(),
        label.get_verticalalignment(),
        label.get_rotation(),
        label.get_rotation_mode(),
        label._get_multialignment(),  # type: ignore[attr-defined]
        label._linespacing,  # type: ignore[attr-defined]
        label.get_parse_math(),
    )
    if key not in _layouts:
        if len(_layouts) >= _MOST_LAYOUTS:
            _layouts.clear()
        _layouts[key] = Text._get_layout(label, renderer)  # type: ignore[attr-defined]
    return _layouts[key]
