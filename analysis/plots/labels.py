"""Words beside points, where they hide neither a point nor other words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from indexscope.analysis.plots.drawing import Array

_SIZE = 7.5
_WIDE, _HIGH = 0.58, 1.25
"""Of a letter and of a line, in font sizes."""

Box = tuple[float, float, float, float]


def label_points(
    axes: Axes,
    at: Mapping[str, tuple[float, ...]],
    labels: Mapping[str, tuple[str, str]],
    size: tuple[float, float],
) -> None:
    """Write words beside points; those for which there is no room are left out.

    Args:
        axes: The panel, with its limits set.
        at: All points by name: x, y and the lower and upper end of its interval.
        labels: Text and colour of those that have one.
        size: Of the panel, width and height in inches; a little less is no harm.
    """
    low, high = axes.get_xlim(), axes.get_ylim()
    room = np.array(size) * 72
    start, reach = np.array([low[0], high[0]]), np.array([low[1] - low[0], high[1] - high[0]])
    spots = {name: (np.array(point[:2]) - start) / reach * room for name, point in at.items()}
    taken: list[Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in spots.values()]
    for name, point in at.items():
        x, ends = spots[name][0], (np.array(point[2:]) - start[1]) / reach[1] * room[1]
        taken.append((x - 1, ends[0], x + 1, ends[1]))
    for name, (text, colour) in labels.items():
        box, found = _free(spots[name], len(text) * _WIDE * _SIZE, room, taken)
        if box is None:
            continue
        taken.append(box)
        (x, y), (across, up) = at[name][:2], found
        axes.annotate(
            text,
            (x, y),
            (7 * across, 6 * up),
            textcoords="offset points",
            ha=("right", "center", "left")[across + 1],
            va=("top", "center", "bottom")[up + 1],
            fontsize=_SIZE,
            color=colour,
        )


def _free(at: Array, width: float, room: Array, taken: Sequence[Box]) -> tuple[Box | None, tuple[int, int]]:
    for across, up in ((1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)):
        x = at[0] + 7 * across - width * (1 - across) / 2
        y = at[1] + 6 * up - _HIGH * _SIZE * (1 - up) / 2
        box = (x, y, x + width, y + _HIGH * _SIZE)
        inside = box[0] >= 0 and box[1] >= 0 and box[2] <= room[0] and box[3] <= room[1]
        if inside and not any(_overlap(box, other) for other in taken):
            return box, (across, up)
    return None, (0, 0)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
