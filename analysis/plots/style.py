"""The house style of every figure: fonts, palette, markers and line styles, and the lock that guards matplotlib."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure, SubFigure

from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.plots.layout import Measured
from indexscope.errors import one_line

# Okabe & Ito (2008), "Color Universal Design": distinguishable under the common kinds of colour blindness.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, YELLOW = "#E69F00", "#56B4E9", "#F0E442"
INK, MUTED, GRID = "#1d232a", "#5d6772", "#dde2e7"
WIDTH = 9.2
"""Width of a full-width figure in inches."""

_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (6, 1.5, 1.2, 1.5)), (0, (1.3, 1.3)), (0, (9, 2)))
_RC: Mapping[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.parse_math": False,  # names come from foreign files: a dollar sign is a dollar sign
    "text.color": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7.0,
    "axes.titley": 1.0,  # none has ticks above that a title would have to leave room for
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 3.2,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # real text: it can be searched, copied and read aloud
}
_GROUPS = frozenset(
    [
        "axes",
        "errorbar",
        "figure",
        "font",
        "grid",
        "hatch",
        "image",
        "legend",
        "lines",
        "markers",
        "mathtext",
        "patch",
        "path",
        "savefig",
        "scatter",
        "svg",
        "text",
        "xtick",
        "ytick",
    ]
)
_LETTER, _HANDLE = 0.075, 0.6
"""Inches that a letter of a legend takes, and what stands before its text with the space around it."""
# matplotlib's settings are one dictionary for the whole process, and figures may be drawn in several threads.
_LOCK = threading.RLock()
_PLACE: ContextVar[Drawing | None] = ContextVar("place", default=None)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Look:
    """How one series is drawn: colour, marker and line style each tell it apart on their own."""

    colour: str
    marker: str
    line: Any


def look(index: int) -> Look:
    """The look of the index-th series of a figure; a model keeps its look in every figure."""
    # After every round of colours the markers move on by one, so that no pair of the two comes back soon.
    return Look(
        _COLOURS[index % len(_COLOURS)],
        _MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)],
        _LINES[(index * 2) % 5 if index > 4 else index],
    )


@contextmanager
def house_style(**extra: Any) -> Iterator[None]:
    """Apply the house style for the length of a block, and give matplotlib's own settings back afterwards."""
    settings: dict[Any, Any] = {**_defaults(), **_RC, **extra}
    with _LOCK, matplotlib.rc_context(settings):
        yield


def _defaults() -> dict[str, Any]:
    """Matplotlib's own defaults for what can change a picture, so that a user's matplotlibrc does not."""
    return {key: value for key, value in matplotlib.rcParamsDefault.items() if key.split(".")[0] in _GROUPS}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorate a drawing function so that it runs in the house style."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with house_style():
            return draw(*args, **kwargs)

    return wrapper


def new_figure(height: float, width: float = WIDTH) -> Drawing:
    """An empty figure of the given size in inches, laid out so that labels never overlap.

    Within `drawn_into` it is the part of a larger figure that was set aside for it.
    """
    place = _PLACE.get()
    return place if place is not None else Drawing(figsize=(width, height), layout=Measured())


@contextmanager
def drawn_into(place: SubFigure) -> Iterator[None]:
    """Have the next figure drawn into a part of a larger one."""
    # A part takes panels, legends and headings as a figure does, and that is all that plots ask for.
    token = _PLACE.set(cast("Drawing", place))
    try:
        yield
    finally:
        _PLACE.reset(token)


def colours(name: str) -> Colormap:
    """A colour map of matplotlib with one colour less than an image's palette holds: cells without a value take it."""
    return matplotlib.colormaps[name].resampled(255)


def short_labels(names: Sequence[str], limit: int = 26) -> dict[str, str]:
    """Labels that fit a legend: one line, cut to ``limit`` characters, and still distinct."""
    labels: dict[str, str] = {}
    for name in names:
        text = one_line(name) or "(no name)"
        label = text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
        number = 2
        while label in labels.values():
            label = f"{text[: limit - 5].rstrip()}… ({number})"
            number += 1
        labels[name] = label
    return labels


def legend_above(figure: Figure, panels: Iterable[Axes], columns: int = 4) -> None:
    """Put one legend for all panels in rows above the figure, where it can hide no data.

    Args:
        figure: The figure.
        panels: Whose entries it has.
        columns: At most so many, and fewer where names are long.
    """
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        longest = max(map(len, entries))
        room = int(figure.bbox.width / figure.dpi / (_LETTER * longest + _HANDLE))
        shown = max(1, min(columns, len(entries), room))
        figure.legend(entries.values(), entries.keys(), loc="outside upper left", ncols=shown)
