"""A recommended change in words: what it does to recall, and what it saves."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from indexscope.analysis.recommendations import RecommendationSettings
from indexscope.analysis.report.numbers import decimals, known, number, percent, span

#: Recall that counts as nothing, and so is neither gained nor lost.
NOTHING = RecommendationSettings().tolerance
OF = " of indexer and attention FLOPs"
#: Letters of a change that a line has room for.
_ROOM = 90

Row = Mapping[str, Any]


def effect(row: Row) -> str:
    """What the change does to recall, no more than its interval allows.

    >>> effect({"expected_loss": -5.4e-5, "ci_low": None, "ci_high": None})
    'costs no measurable recall (estimate within ±0.001, no interval)'
    >>> effect({"expected_loss": 0.0002, "ci_low": 0.0001, "ci_high": 0.0004})
    'costs no measurable recall (at most 0.0004)'
    >>> effect({"expected_loss": 0.0051, "ci_low": 0.0042, "ci_high": 0.0060})
    'costs 0.00510 of recall (0.00420 to 0.00600)'
    """
    loss, low, high = (known(row[name]) for name in ("expected_loss", "ci_low", "ci_high"))
    if loss is None:
        return "has an unknown effect on recall"
    if low is None or high is None:
        if abs(loss) <= NOTHING:
            return f"costs no measurable recall (estimate within ±{NOTHING:g}, no interval)"
        return f"{'costs' if loss > 0 else 'gains'} about {number(abs(loss), places=4)} of recall (no interval)"
    if high <= NOTHING:
        return f"costs no measurable recall (at most {_bound(max(high, loss))})"
    if low <= 0:
        return f"costs at most {_bound(max(high, loss))} of recall, or none"
    places = decimals((low, high), loss)
    return f"costs {number(loss, places=places)} of recall ({span(low, high, places=places)})"


def _bound(value: float) -> str:
    """Rounded up: a bound that is exceeded is none."""
    return number(max(math.ceil(value * 1e4 - 1e-6), 1) / 1e4, places=4)


def savings(row: Row) -> str:
    """What it saves, with a comma before it; nothing where that is not known."""
    here, long = known(row["saving"]), known(row["saving_at_64k"])
    saved = [
        f"{rounded(value)}{of} {where}"
        for value, of, where in (
            (here, OF, "at the study's lengths"),
            (long, "" if here else OF, "at 64 k tokens"),
        )
        if value is not None and value > 0
    ]
    return f", saves {' and '.join(saved)}" if saved else ""


def rounded(share: float) -> str:
    """A saving in per cent with two digits, and none of what is next to nothing."""
    return "< 0.1 %" if share < 0.001 else percent(float(f"{share:.2g}"))


def sentence(row: Row) -> str:
    """Change, effect and saving in full."""
    return f"{_capital(str(row['change']))}: {effect(row)}{savings(row)}."


def line(row: Row) -> str:
    """The same for a line of its own."""
    loss, low, high = (known(row[name]) for name in ("expected_loss", "ci_low", "ci_high"))
    what = effect(row)
    if loss is not None and (low is None or high is None) and abs(loss) <= NOTHING:
        what = "costs no measurable recall"
    here, long = known(row["saving"]), known(row["saving_at_64k"])
    shares = [f"{rounded(here)}{OF}"] if here else []
    shares += [f"{rounded(long)}{'' if here else OF} at 64 k"] if long else []
    saved = f", saves {', '.join(shares)}" if shares else ""
    return f"{_capital(shortened(str(row['change'])))}: {what}{saved}."


def _capital(change: str) -> str:
    return change if change.startswith("k ") else f"{change[:1].upper()}{change[1:]}"


def shortened(change: str) -> str:
    """A change without lists of layers and heads, if it does not fit a line with them.

    >>> shortened("k = 48 in layers 0 and 2, and 96 in layer 1 instead of 64 everywhere")
    'k = 48 in layers 0 and 2, and 96 in layer 1 instead of 64 everywhere'
    >>> shortened("k = 9 in layer 0, 10 in layer 1, 8 in layers " + ", ".join(map(str, range(2, 40))) + ", and 7 in "
    ...           "layer 40 instead of 64 everywhere (5 keys fewer in all)")
    'k of 7 to 10 by layer instead of 64 everywhere'
    """
    if len(change) <= _ROOM:
        return change
    if (now := re.search(r"instead of .*$", change)) and change.startswith("k = "):
        each = [int(found) for found in re.findall(r"(\d+) in layers?", change)]
        if each:
            return f"k of {min(each)} to {max(each)} by layer {now[0].partition(' (')[0]}"
    users = re.findall(r"layers? ([\d, and]+?) (?:reuse|that)", change)
    if change.startswith("let ") and users:
        count = sum(len(re.findall(r"\d+", own)) for own in users)
        return f"let {count} layers reuse the selection of an earlier layer"
    return re.sub(r" \(heads?[^)]*\)", "", change)
