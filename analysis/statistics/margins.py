"""Margins: the differences that do not matter, as a study writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Features are means in single precision: smaller relative differences are arithmetic, not models.
ROUNDING = 1e-6
_REMEDY = 'write a number in the metric\'s unit, or a share of the baseline such as "1%"'


@dataclass(frozen=True)
class Margin:
    """A difference that does not matter.

    Attributes:
        amount: In the metric's unit, or as a share of the baseline's absolute value.
        relative: Whether it is a share.
    """

    amount: float
    relative: bool


def read_margin(name: str, value: float | str) -> Margin:
    """A margin from a number or from a text such as ``1%``.

    Args:
        name: Name of the metric, for the error.
        value: What the study says.

    Raises:
        ValueError: It is neither, or not above 0.

    >>> read_margin("selection_recall", "1%")
    Margin(amount=0.01, relative=True)
    """
    relative = isinstance(value, str)
    if isinstance(value, str) and not value.strip().endswith("%"):
        raise ValueError(f"the margin of {name} is {value!r}, which has no %; {_REMEDY}")
    try:
        # True is a number to Python, and no margin.
        amount = math.nan if isinstance(value, bool) else float(str(value).strip().removesuffix("%"))
    except ValueError:
        amount = math.nan
    if not (math.isfinite(amount) and amount > 0):
        raise ValueError(f"the margin of {name} is {value!r}, not a number above 0; {_REMEDY}")
    return Margin(amount / 100 if relative else amount, relative)
