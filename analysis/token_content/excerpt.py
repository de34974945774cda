"""Which tokens of a long text to show of one query's selection."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHOWN = 160
"""Tokens of an excerpt, at most."""
RECENT = 96
"""Of these, tokens before and with the query, where the text is longer than an excerpt."""


def shown_positions(weight: NDArray[np.float64], query: int) -> NDArray[np.int64]:
    """Positions of the tokens to show: those up to the query, and one stretch of the earlier ones.

    Where everything up to the query fits, all of it is shown. Else the last `RECENT` tokens up to the query, and of
    what precedes them the stretch of SHOWN - RECENT tokens with the largest weight; the earliest such stretch if equal.

    Args:
        weight: How telling each key is, [keys]: its attention if it is selected, else 0. Keys after the query are not
            looked at.
        query: The query's position.

    Returns:
        Ascending positions, the last of which is the query.

    >>> shown_positions(np.eye(1, 400, 7)[0], 399)[[0, 63, 64, -1]].tolist()
    [0, 63, 304, 399]
    """
    if query < SHOWN:
        return np.arange(query + 1)
    start = query + 1 - RECENT
    length = SHOWN - RECENT
    summed = np.concatenate(([0.0], np.cumsum(weight[:start])))
    first = int(np.argmax(summed[length:] - summed[:-length]))
    return np.concatenate((np.arange(first, first + length), np.arange(start, query + 1)))
