"""Attention maps of single heads, and what of them a selection keeps and leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from indexscope.analysis.plots.beside import bar_below
from indexscope.analysis.plots.drawing import Array, Drawing, note
from indexscope.analysis.plots.style import BLUE, GRID, SKY, VERMILLION, colours, new_figure, styled

COLUMNS = 4
AT_MOST = 16
#: Parts of a map's queries and keys that are drawn, by the number of maps: the last that fits.
_PARTS = {1: 256, 4: 128, AT_MOST: 64}
_TINT = 0.3


@dataclass(frozen=True)
class MapPanel:
    """One head's map.

    Attributes:
        label: What the panel is called.
        attention: [queries, keys].
        selected: Which keys each query attends to, same shape; None where nothing was selected.
    """

    label: str
    attention: Array
    selected: NDArray[np.bool_] | None = None


@styled
def selected_maps(panels: Sequence[MapPanel], title: str, causal: bool = True, tokens: Sequence[str] = ()) -> Figure:
    """A panel a head, keys to the right and queries downward; blue is attention on selected keys, red is left out.

    Long maps are drawn in equal parts: each cell is the attention that a query of the part gives to a part of the
    keys, on average, and is tinted by the share of it that is selected. The colour goes with the square root.

    Args:
        panels: At most 16 heads, all of the same length.
        title: Of the figure.
        causal: Whether the future is blank.
        tokens: Texts to write at the axes; left out where there is no room for them.
    """
    size = next(parts for most, parts in _PARTS.items() if len(panels) <= most)
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    single = len(panels) == 1
    figure = new_figure(6.7 if single else 2.3 * rows + 2.0, 7.2 if single else 9.2)
    figure.suptitle(title, fontsize=10.5, fontweight="bold")
    grid = figure.subplots(rows, columns, squeeze=False)
    selects = panels[0].selected is not None
    drawn = [_parts(panel, size) for panel in panels]
    norm = PowerNorm(0.5, 0, max(float(np.nanmax(attention)) for attention, *_ in drawn) or 1.0)
    for axes, panel, (attention, kept, share) in zip(grid.flat, panels, drawn, strict=False):
        length = len(panel.attention)
        future = np.triu(np.ones(attention.shape, dtype=bool), 1) if causal else np.zeros(attention.shape, dtype=bool)
        cells = _mixed(kept, attention - kept, share, norm) if selects else colours("magma_r")(norm(attention))[..., :3]
        axes.imshow(np.where(future[..., None], to_rgb(GRID), cells), interpolation="none", aspect="equal")
        axes.grid(visible=False)
        axes.set_title(panel.label, fontsize=8.5 if not single else 9.5)
        _ticks(axes, length, len(attention), tokens if single else ())
        _note(axes, panel.label, attention, kept if selects else None, ~future, length)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for row in grid:
        row[0].set_ylabel("query (token)")
    for place in range(columns):
        below = grid[(len(panels) - 1 - place) // columns, place]
        below.set_xlabel("key (token)")
    _legend(figure, [axes for axes in grid.flat if axes.figure is not None][: len(panels)], norm, selects, causal)
    return figure


def _parts(panel: MapPanel, size: int) -> tuple[Array, Array, Array]:
    """Attention by part, of it the selected, and the share of the cell's pairs that are selected."""
    attention = np.asarray(panel.attention, dtype=np.float64)
    selected = np.ones(attention.shape) if panel.selected is None else panel.selected.astype(np.float64)
    length = len(attention)
    if length <= size:
        return attention, attention * selected, selected
    starts = np.unique(np.arange(size) * length // size)
    queries, cells = np.diff(starts, append=length)[:, None], np.outer(*[np.diff(starts, append=length)] * 2)

    def summed(values: Array) -> Array:
        return np.asarray(np.add.reduceat(np.add.reduceat(values, starts, axis=0), starts, axis=1))

    return summed(attention) / queries, summed(attention * selected) / queries, summed(selected) / cells


def _mixed(kept: Array, lost: Array, share: Array, norm: PowerNorm) -> Array:
    """White, less the complement of each colour by how much of it there is."""
    cells = np.ones((*kept.shape, 3))
    for values, colour in ((norm(kept), BLUE), (norm(np.maximum(lost, 0)), VERMILLION), (_TINT * share, SKY)):
        cells = cells - np.asarray(values)[..., None] * (1 - np.array(to_rgb(colour)))
    return np.clip(cells, 0, 1)


def _ticks(axes: Axes, length: int, parts: int, tokens: Sequence[str]) -> None:
    if tokens and length <= 40 and len(tokens) == length:
        labels = [_short(token) for token in tokens]
        axes.set_xticks(range(length), labels, rotation=90, fontsize=7, family="DejaVu Sans Mono")
        axes.set_yticks(range(length), labels, fontsize=7, family="DejaVu Sans Mono")
        return
    places = sorted({0, length // 2, length - 1})
    where = [place * parts // length for place in places]
    axes.set_xticks(where, [str(place) for place in places])
    axes.set_yticks(where, [str(place) for place in places])


def _short(token: str) -> str:
    shown = token.replace(" ", "·").replace("\n", "↵").replace("\t", "→")
    return shown if len(shown) <= 10 else shown[:9] + "…"


def _legend(figure: Drawing, panels: Sequence[Axes], norm: PowerNorm, selects: bool, causal: bool) -> None:
    words = {"attention": colours("magma_r")}
    if selects:
        maps = [LinearSegmentedColormap.from_list(colour, ["white", colour]) for colour in (BLUE, VERMILLION)]
        words = dict(zip(("attention on selected keys", "attention left out"), maps, strict=True))
    columns = min(COLUMNS, len(panels))
    first = panels[(len(panels) - 1) // columns * columns]
    for line, (label, colour) in enumerate(words.items()):
        bar = bar_below(first, ScalarMappable(norm, colour), columns, line, ticks=MaxNLocator(5))
        bar.set_label(f"{label} (share of the query's)", fontsize=8.5)
        bar.outline.set_visible(False)
    if selects:
        tint = 1 - _TINT * (1 - np.array(to_rgb(SKY)))
        patches = [Patch(facecolor=tuple(tint), label="selected, hardly attended")]
        patches += [Patch(color=GRID, label="future")] if causal else []
        figure.legend(handles=patches, loc="outside lower right", ncols=2)


def _note(axes: Axes, label: str, attention: Array, kept: Array | None, seen: NDArray[np.bool_], length: int) -> None:
    # What holds less than a thousandth of a query's attention cannot be seen and is not told.
    down, across = np.nonzero(seen & (attention >= 1e-3))
    starts = -(-np.arange(len(attention)) * length // len(attention))
    columns = {
        "queries_from": starts[down],
        "keys_from": starts[across],
        "attention": attention[down, across],
    }
    if kept is not None:
        columns["selected_attention"] = kept[down, across]
    shown = pl.DataFrame(columns)
    note(axes, shown, across, down, shown.columns, panel=label)
