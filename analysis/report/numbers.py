"""Numbers as a reader wants them: as many digits as the uncertainty allows, a unit, and a dash for what is unknown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

DASH = "–"
_PREFIXED = {"FLOPs", "FLOPs/token", "parameters"}
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_COUNTS = {"parameters", "tokens", "keys", "clusters"}
_MOST_DECIMALS = 5
_ROUNDING = 1e-9
"""Share of a number below which an interval is nothing but rounding."""


def known(value: object) -> float | None:
    """The value as a finite float, or None for null, NaN and infinity."""
    if value is None or isinstance(value, str) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def decimals(interval: Iterable[float | None], *values: float | None) -> int | None:
    """Decimals that show two digits of an interval's half-width, or None where there is no interval.

    A difference of 0.0123 ± 0.0041 is worth four decimals; more would be noise, fewer would hide it. There are five at
    most: what is smaller is shown as nothing.
    """
    bounds = [bound for bound in interval if bound is not None]
    largest = max((abs(value) for value in (*bounds, *values) if value is not None), default=0.0)
    if len(bounds) < 2 or bounds[1] - bounds[0] <= _ROUNDING * largest:
        return None
    places = 1 - math.floor(math.log10((bounds[1] - bounds[0]) / 2))
    return min(max(0, places), _MOST_DECIMALS) if largest < 1e6 else None


@dataclass(frozen=True)
class Digits:
    """How the numbers of one row are written, all alike: value, difference and bounds.

    Attributes:
        unit: Their unit.
        places: Decimals; None where each has four significant digits of its own.
        size: What they are divided by.
        prefix: What stands for that.
    """

    unit: str
    places: int | None
    size: float = 1.0
    prefix: str = ""

    def number(self, value: object, signed: bool = False) -> str:
        """One of them."""
        amount = known(value)
        if amount is None or not self.prefix:
            return number(amount, self.unit, self.places, signed)
        return f"{number(amount / self.size, places=self.places, signed=signed)}{self.prefix}"

    def span(self, low: object, high: object, signed: bool = False) -> str:
        """An interval as "low to high"; a dash where there is none, or where it is but rounding."""
        bounds = known(low), known(high)
        if bounds[0] is None or bounds[1] is None or (self.places is not None and _no_wider(bounds[0], bounds[1])):
            return DASH
        return f"{self.number(low, signed)} to {self.number(high, signed)}"


def _no_wider(low: float, high: float) -> bool:
    return high - low <= _ROUNDING * max(abs(low), abs(high))


def digits(unit: str, values: Iterable[object], interval: Iterable[object] = ()) -> Digits:
    """The digits of a row: as many as its interval allows, else four significant ones of its largest number.

    Args:
        unit: Of all numbers of the row.
        values: The numbers.
        interval: Lower and upper bound of what is uncertain about them.

    >>> row = digits("share", (0.8022, 0.8, -0.00218), (-0.002276, -0.00208))
    >>> [row.number(value) for value in (0.8022, 0.8, -0.00218)]
    ['0.80220', '0.80000', '−0.00218']
    >>> digits("FLOPs", (1_253_400.0, 355_980.0)).number(355_980.0)
    '0.356\u202fM'
    """
    bounds = [known(bound) for bound in interval]
    sizes = [abs(amount) for value in (*values, *bounds) if (amount := known(value)) is not None]
    largest = max(sizes, default=0.0)
    size, prefix = next((one for one in _PREFIXES if unit in _PREFIXED and largest >= one[0]), (1.0, ""))
    scaled = [None if bound is None else bound / size for bound in bounds]
    places = decimals(scaled, largest / size)
    if places is None and all(amount == round(amount) for amount in sizes) and not prefix:
        places = 0 if largest < 1e9 else None
    elif places is None and 1e-4 <= largest / size < 1e6:
        places = min(max(0, 3 - math.floor(math.log10(largest / size))), _MOST_DECIMALS)
    return Digits(unit, places, size, f"\u202f{prefix}" if prefix else "")


def number(value: object, unit: str = "", places: int | None = None, signed: bool = False) -> str:
    """One number, with a true minus sign; large FLOPs and parameters get a prefix (use ``unit_of`` beside it).

    Args:
        value: The number; null, NaN and infinity give a dash.
        unit: Its unit, which decides about prefixes.
        places: Fixed decimals; without them up to four significant digits.
        signed: Write a plus sign too.
    """
    amount = known(value)
    if amount is None:
        return DASH
    sign = "−" if amount < 0 else "+" if signed and amount > 0 else ""
    text = _unsigned(abs(amount), unit, places)
    return text if not text.strip("0.,") else sign + text


def _unsigned(amount: float, unit: str, places: int | None) -> str:
    if unit in _PREFIXED:
        for size, prefix in _PREFIXES:
            if amount >= size:
                return f"{amount / size:.4g}\u202f{prefix}"
    if places is not None:
        return f"{amount:,.{places}f}"
    if amount == 0:
        return "0"
    if unit in _COUNTS and amount == round(amount):
        return f"{amount:,.0f}"
    power = math.floor(math.log10(amount))
    if power >= 9 or power < -4:
        mantissa = f"{amount / 10.0**power:.3g}"
        return f"{mantissa}\u202f×\u202f10{str(power).translate(_SUPERSCRIPTS)}"
    if power >= 4:
        return f"{amount:,.0f}"
    text = f"{amount:,.{min(max(3 - power, 0), 7)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def span(low: object, high: object, unit: str = "", places: int | None = None, signed: bool = False) -> str:
    """An interval as "low to high", or a dash."""
    if known(low) is None or known(high) is None:
        return DASH
    return f"{number(low, unit, places, signed)} to {number(high, unit, places, signed)}"


def percent(share: float) -> str:
    """A share as per cent with at most three significant digits, and more where they would make a whole of a part.

    >>> percent(0.5), percent(0.99967), percent(1.0), percent(1 - 1e-9)
    ('50\u202f%', '99.97\u202f%', '100\u202f%', '<\u202f100\u202f%')
    """
    for digits in range(3, 8) if share < 1 else (3,):
        text = f"{share * 100:.{digits}g}"
        if share >= 1 or text != "100":
            return f"{text}\u202f%"
    return "<\u202f100\u202f%"


def percent_with_interval(row: Mapping[str, Any], name: str = "share") -> tuple[str, str]:
    """A share and its interval (ci_low, ci_high) in per cent, with two digits of the interval's half-width.

    >>> percent_with_interval({"share": 0.25, "ci_low": 0.195, "ci_high": 0.305})
    ('25.0', '19.5 to 30.5')
    """
    value, low, high = (
        None if (amount := known(row[key])) is None else 100 * amount for key in (name, "ci_low", "ci_high")
    )
    places = decimals((low, high), value)
    places = 1 if places is None else places
    return number(value, places=places), span(low, high, places=places)


def count(value: object) -> str:
    """A whole number with separators, or a dash."""
    amount = known(value)
    return DASH if amount is None else f"{amount:,.0f}"
