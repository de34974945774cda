"""A figure that knows what it shows: the rows behind its marks, for whoever wants to read or save them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Array = NDArray[np.float64]
Place = str | Sequence[float] | NDArray[Any]

INTERVAL = ("ci_low", "ci_high")


@dataclass(frozen=True)
class Marks:
    """The marks of one series in one panel.

    Attributes:
        axes: The panel.
        panel: What distinguishes the panel, "" where it is the only one.
        series: Name of the series, "" where it is the only one.
        rows: One row a mark, every column under its own name.
        x: Where the marks stand, in the panel's own coordinates.
        y: The same upward.
    """

    axes: Axes
    panel: str
    series: str
    rows: pl.DataFrame
    x: Array
    y: Array


class Drawing(Figure):
    """A matplotlib figure with the rows that it was drawn from."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.marks: list[Marks] = []
        self._shown_in: int | None = None

    def _ipython_display_(self) -> None:
        """Show itself in a notebook, once in each cell: as the value of a cell it was often shown by then."""
        from IPython import get_ipython
        from IPython.display import publish_display_data

        cell = getattr(get_ipython(), "execution_count", None)
        if cell is not None and cell == self._shown_in:
            return
        self._shown_in = cell
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=110, facecolor="white")
        publish_display_data({"image/png": picture.getvalue(), "text/plain": repr(self)})

    @property
    def data(self) -> pl.DataFrame:
        """All rows in the order in which they were drawn, after columns panel and series where these tell rows apart.

        A series that has no column of another's holds nulls there.
        """
        parts = [
            marks.rows.select(pl.lit(marks.panel).alias("panel"), pl.lit(marks.series).alias("series"), pl.all())
            for marks in self.marks
        ]
        if not parts:
            return pl.DataFrame()
        joined = pl.concat(parts, how="diagonal_relaxed")
        return joined.drop([name for name in ("panel", "series") if joined[name].n_unique() == 1])


def note(
    axes: Axes,
    rows: pl.DataFrame,
    x: Place,
    y: Place,
    columns: Iterable[str] = (),
    panel: str = "",
    series: str = "",
    **constants: Any,
) -> None:
    """Keep the rows behind marks that were just drawn, so that each can be read and all can be saved.

    Args:
        axes: A panel of a `Drawing`.
        rows: One row a mark.
        x: A column, or where the marks stand in the panel's coordinates.
        y: The same upward.
        columns: Columns to keep beside those of the places, in order; the interval and n are kept where rows have them.
        panel: What distinguishes the panel.
        series: What distinguishes the series.
        **constants: Further columns that are the same in every row; a unit, say. None leaves one out.
    """
    figure = axes.get_figure(root=True)
    if not isinstance(figure, Drawing):
        raise TypeError("only figures made by new_figure keep their rows")
    wanted = [place for place in (x, y) if isinstance(place, str)]
    wanted += [name for name in (*columns, *INTERVAL, "n") if name in rows.columns]
    told = {name: pl.lit(value) for name, value in constants.items() if value is not None}
    kept = rows.select(list(dict.fromkeys(wanted))).with_columns(**told)
    places = (_numbers(rows[place]) if isinstance(place, str) else np.asarray(place, np.float64) for place in (x, y))
    figure.marks.append(Marks(axes, panel, series, kept, *places))


def _numbers(column: pl.Series) -> Array:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)


def few_columns(axes: Axes, count: int, least: int) -> None:
    """Have columns at 0, 1, ... in a panel's middle, no wider than if there were as many as least."""
    middle, half = (count - 1) / 2, max(count, least) / 2 + 0.1
    axes.set_xlim(middle - half, middle + half)
