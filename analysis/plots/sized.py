"""A figure in the size that a paper wants, as a file."""

from __future__ import annotations

import io
import re
from typing import Literal

from matplotlib.figure import Figure
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


def sized(figure: Figure, width: float | None = None, height: float | None = None) -> None:
    """Give a figure a size before it is drawn; letters and lines shrink with it, down to what can be read.

    Args:
        figure: The figure, not drawn yet.
        width: In mm; its own where it is None.
        height: In mm; where it is None it follows from the width, a little higher the more the letters take of it.
    """
    own = figure.get_size_inches()
    wide = own[0] if width is None else width / _INCH
    scale = min(max(wide / own[0], _SMALLEST), 1.0)
    # Half of what letters take more of the width is given to the height.
    high = own[1] * (wide / own[0] + scale) / 2 if height is None else height / _INCH
    figure.set_size_inches(wide, high)
    if scale == 1:
        return
    for text in figure.findobj(Text):
        text.set_fontsize(text.get_fontsize() * scale)
    for line in figure.findobj(Line2D):
        line.set_linewidth(line.get_linewidth() * scale)
        line.set_markersize(line.get_markersize() * scale)


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
