"""A figure in the size that a paper wants, as a file."""

from __future__ import annotations

import io
import re
from textwrap import fill
from typing import Any, Literal

from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.text import Text

from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.plots.style import house_style
from indexscope.analysis.plots.svg import to_svg

Format = Literal["pdf", "svg", "png", "csv"]
FORMATS: tuple[Format, ...] = ("pdf", "svg", "png", "csv")
#: Widths that papers are set in, in mm.
WIDTHS = {"column": 89.0, "text": 140.0, "page": 183.0}
_INCH = 25.4
_SMALLEST = 0.72
"""Letters of 9 points are not drawn smaller than this share: 6.5 points, which journals accept."""
_DPI = 300
_TITLE = 0.075
"""Inches that a letter of a title takes in a narrow figure."""
_NARROWEST = 2.4
"""Inches that a panel has beside others."""


def sized(figure: Figure, width: float | None = None, height: float | None = None) -> None:
    """Give a figure a size before it is drawn: letters and lines shrink down to what can be read, panels are stacked.

    Args:
        figure: The figure, not drawn yet.
        width: In mm; its own where it is None.
        height: In mm; where it is None it follows from the width and from how the panels stand.
    """
    own = figure.get_size_inches()
    wide = own[0] if width is None else width / _INCH
    shrunk = wide / own[0]
    scale = min(max(shrunk, _SMALLEST), 1.0)
    stacked = _stack(figure, wide)
    # Most of the height is letters and legends, which do not shrink as the width does; stacked panels get wider.
    high = own[1] * (0.3 * shrunk + 0.7 * scale) if stacked == 1 else own[1] * 0.75 * scale * stacked
    figure.set_size_inches(wide, high if height is None else height / _INCH)
    for text in figure.findobj(Text):
        text.set_fontsize(text.get_fontsize() * scale)
    for line in figure.findobj(Line2D):
        line.set_linewidth(line.get_linewidth() * scale)
        line.set_markersize(line.get_markersize() * scale)
    beside = (axes.get_legend() for axes in figure.axes)
    for legend in [*figure.legends, *(one for one in beside if one is not None)]:
        _narrow(legend, wide, scale)


def _stack(figure: Figure, wide: float) -> int:
    """Put panels that would get too narrow side by side below each other; how many stand there then."""
    placed = [(axes, place) for axes in figure.axes if (place := axes.get_subplotspec()) is not None]
    grids = {id(place.get_gridspec()): place.get_gridspec() for _, place in placed}
    if len(grids) != 1:
        return 1
    (grid,) = grids.values()
    if grid.ncols == 1 or wide / grid.ncols >= _NARROWEST:
        return 1
    if grid.nrows > 1 or any(axes.images for axes, _ in placed):
        letters = int(wide / grid.ncols / _TITLE)
        titles = {axes.get_title(loc="left") for axes, _ in placed}
        for text in figure.findobj(Text):
            if text.get_text() in titles:
                text.set_text(fill(text.get_text(), letters))
        return 1
    column = GridSpec(grid.ncols, 1, figure=figure)
    label = placed[0][0].get_ylabel()
    for at, (axes, _) in enumerate(placed):
        axes.set_subplotspec(column[at])
        axes.tick_params(labelleft=True)
        if not axes.get_ylabel():
            axes.set_ylabel(label)
    return len(placed)


def _narrow(legend: Any, wide: float, scale: float) -> None:
    """Set a legend in as many columns as the width has room for."""
    texts = legend.get_texts()
    if not texts:
        return
    size = texts[0].get_fontsize()
    room = 0.6 * size * max(len(text.get_text()) for text in texts) / 72 + 0.5 * scale
    columns = max(1, int(wide / room))
    if columns >= legend._ncols:
        return
    # matplotlib lays the entries out once, when the legend is made.
    legend.set_ncols(columns)
    legend._init_legend_box(legend.legend_handles, [text.get_text() for text in texts])
    legend._legend_box.set_offset(legend._findoffset)
    for text in legend.get_texts():
        text.set_fontsize(size)


def as_file(figure: Figure, kind: Format, title: str, caption: str) -> bytes:
    """The figure as a file of one kind; the same figure gives the same bytes.

    Args:
        figure: The figure; of a ``csv`` its rows are written, which a `Drawing` brings along.
        kind: Kind of the file.
        title: What it is called, for the file's own description.
        caption: How to read it, for the same.
    """
    if kind == "csv":
        data = figure.data if isinstance(figure, Drawing) else None
        return b"" if data is None else data.write_csv().encode()
    if kind == "svg":
        wide, high = figure.get_size_inches() * _INCH
        text = to_svg(figure, "figure", title, caption, standalone=True)
        return re.sub(r"^<svg ", f'<svg width="{wide:.1f}mm" height="{high:.1f}mm" ', text).encode()
    buffer = io.BytesIO()
    # Letters stay letters: TrueType, as journals ask for.
    with house_style(**{"pdf.fonttype": 42}):
        described = {"Title": title, "Subject": caption, "CreationDate": None, "Creator": None, "Producer": None}
        metadata = described if kind == "pdf" else {"Title": title, "Description": caption, "Software": None}
        figure.savefig(buffer, format=kind, dpi=_DPI, facecolor="white", metadata=metadata)
    return buffer.getvalue()
