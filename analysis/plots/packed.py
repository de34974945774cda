"""The rows behind a drawn figure as a small JSON value, each with the place of its mark in the picture.

A report holds tens of thousands of marks. Three things keep them small: whole numbers that repeat or count up are
written as runs, texts as places in a list, and places that follow from a column as the rule that gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from numpy.typing import NDArray

from indexscope.analysis.plots.drawing import Array, Drawing, Marks

MANY = 2000
"""A figure with more marks than this is written with four significant digits in place of six."""
_RULE_OFF = 0.15
"""How far in points a place may lie from what the rule gives."""


def packed(drawing: Drawing) -> dict[str, Any]:
    """The figure's marks, to be read by the report's script; call it after `to_svg`, when the places are known.

    Returns:
        ``size``: width and height of the picture in points; ``parts``: one for each `Marks` with panel, series,
        columns (by name, see `column`), and the places x and y: numbers in points, or ``{"of", "a", "b", "log"}`` for
        a + b · (the column, or its natural logarithm).
    """
    width, height = (float(72 * inches) for inches in drawing.get_size_inches())
    digits = 6 if sum(marks.rows.height for marks in drawing.marks) <= MANY else 4
    return {
        "size": [round(width, 2), round(height, 2)],
        "parts": [_part(marks, drawing, (width, height), digits) for marks in drawing.marks],
    }


def _part(marks: Marks, drawing: Drawing, size: tuple[float, float], digits: int) -> dict[str, Any]:
    across, up = _shares(marks.axes, drawing, marks.x, marks.y)
    told = {
        one.name: one.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        for one in marks.rows.iter_columns()
        if one.dtype.is_numeric()
    }
    return {
        "panel": marks.panel,
        "series": marks.series,
        "columns": {name: column(marks.rows[name], digits) for name in marks.rows.columns},
        "x": _place(across * size[0], told),
        "y": _place((1 - up) * size[1], told),
    }


def _shares(axes: Axes, drawing: Drawing, x: Array, y: Array) -> tuple[Array, Array]:
    """Places as shares of the figure's width and height."""
    with np.errstate(all="ignore"):
        points = axes.transData.transform(np.column_stack([x, y]))
        shares = drawing.transFigure.inverted().transform(points)
    return shares[:, 0], shares[:, 1]


def _place(points: Array, columns: Mapping[str, Array]) -> Any:
    known = np.isfinite(points)
    if known.any():
        for name, values in columns.items():
            if (rule := _rule(points, known, values)) is not None:
                return {"of": name, **rule}
    return [round(point, 1) if there else None for point, there in zip(points.tolist(), known.tolist(), strict=True)]


def _rule(points: Array, known: NDArray[np.bool_], values: Array) -> dict[str, Any] | None:
    """How points follow from values: as they are, or from their logarithms."""
    for log in (False, True):
        with np.errstate(all="ignore"):
            x = np.log(values) if log else values
        if not np.array_equal(known, np.isfinite(x)):
            continue
        own, at = x[known], points[known]
        first, last = own.argmin(), own.argmax()
        if own[last] <= own[first]:
            continue
        b = (at[last] - at[first]) / (own[last] - own[first])
        a = at[first] - b * own[first]
        if np.abs(a + b * own - at).max() < _RULE_OFF:
            return {"a": float(f"{a:.6g}"), "b": float(f"{b:.6g}"), "log": log}
    return None


def column(values: pl.Series, digits: int = 6) -> Any:
    """A column as JSON: ``{"runs": [start, step, count, …]}``, ``{"texts", "at"}``, or a list of numbers and nulls."""
    if values.dtype == pl.Boolean:
        values = values.cast(pl.Int8)
    if not values.dtype.is_numeric():
        texts = values.cast(pl.String).fill_null("")
        order = texts.unique(maintain_order=True).to_list()
        at = {text: place for place, text in enumerate(order)}
        return {"texts": order, "at": column(pl.Series([at[text] for text in texts], dtype=pl.Int64))}
    if values.dtype.is_integer() and not values.null_count():
        return {"runs": _runs(values.to_list())}
    numbers = values.cast(pl.Float64).to_list()
    return [None if number is None or not np.isfinite(number) else _short(number, digits) for number in numbers]


def _short(number: float, digits: int) -> float | int:
    rounded = float(f"{number:.{digits}g}")
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 2**53 else rounded


def _runs(numbers: list[int]) -> list[int]:
    """Start, step and count of runs that repeat, count up or count down, one after the other."""
    runs: list[int] = []
    start = 0
    while start < len(numbers):
        step, end = 0, start + 1
        if end < len(numbers) and abs(numbers[end] - numbers[start]) <= 1:
            step = numbers[end] - numbers[start]
            while end < len(numbers) and numbers[end] - numbers[end - 1] == step:
                end += 1
        runs += [numbers[start], step, end - start]
        start = end
    return runs
