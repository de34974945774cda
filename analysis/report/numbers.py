"""Numbers as a reader wants them: as many digits as the uncertainty allows, a unit, and a dash for what is unknown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

DASH = "–"
_PREFIXED = {"FLOPs", "FLOPs/token", "parameters"}
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_COUNTS = {"parameters", "tokens", "keys", "clusters"}
_MOST_DECIMALS = 5


def known(value: object) -> float | None:
    """The value as a finite float, or None for null, NaN and infinity."""
    if value is None or isinstance(value, str) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def decimals(interval: Iterable[float | None], *values: float | None) -> int | None:
    """Decimals that show two digits of an interval's half-width, or None where there is no interval.

    A difference of 0.0123 ± 0.0041 is worth four decimals; more would be noise, fewer would hide it.
    """
    bounds = [bound for bound in interval if bound is not None]
    if len(bounds) < 2 or bounds[1] <= bounds[0]:
        return None
    places = 1 - math.floor(math.log10((bounds[1] - bounds[0]) / 2))
    if places > _MOST_DECIMALS:
        return None
    largest = max((abs(value) for value in (*bounds, *values) if value is not None), default=0.0)
    return max(0, places) if largest < 1e6 else None


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
