"""What an indexer head focuses on, in words: rules on where its score lies, against where uniform scoring would put it.

The excess of a place is (share - uniform) / (1 - uniform): 0 where the head scores the place like any other key, 1
where it scores nothing else. Uniform scoring of 1,000 keys puts 3 % on the nearest 32 and 0.1 % on the previous token,
so that plain shares of the two could not be held to one threshold.
"""

from __future__ import annotations

from collections.abc import Mapping

SELDOM = 0.05
"""A head that contributes to the score of some key for a smaller share of the queries is called inactive."""
MIXED = 0.25
"""A head of which either sign has at least this share of the queries is said to be of either sign."""
EXCESS = 0.3
"""Excess from which a place is named."""
FAR, NEAR = 1.25, 0.75
"""Mean distance relative to uniform scoring, from which a head is called far, or up to which near."""
PLACES = {"previous": "previous token", "self": "own token", "sink": "sink", "induction": "induction"}
"""Narrow places and their words; ``local``, which holds some of them, is named only where none of them is."""
_AGAINST = {"local": "local keys", "far": "far keys", "near": "near keys", "broad": "keys everywhere"}

Row = Mapping[str, float | None]


def words(row: Row) -> str:
    """What a head focuses on.

    Args:
        row: Its means: ``adds_share`` and ``against_share``, the queries for which it adds to the score of some key or
            takes from it; the shares by place and mean_distance of what it adds, each of these with ``uniform_``, and
            the same of what it votes against with the prefix ``against_``.

    Returns:
        "unknown" where nothing was measured, and "inactive" where the head hardly ever contributes. Otherwise what its
        commoner sign holds, with "against" before it where that is minus: the narrow places with enough excess, the
        largest first; else "local" (nearest 32 keys); else "far" or "near" by mean distance; else "broad". Where the
        rarer sign is common too, "(either sign)" follows.

    >>> words({"adds_share": 1.0, "against_share": 0.0, "previous": 0.9, "uniform_previous": 0.01})
    'previous token'
    """
    adds, against = row.get("adds_share"), row.get("against_share")
    if adds is None or against is None:
        return "unknown"
    if adds + against < SELDOM:
        return "inactive"
    if against > adds:
        place = _place(row, "against_")
        signed = f"against {_AGAINST.get(place, place)}"
    else:
        signed = _place(row, "")
    return f"{signed} (either sign)" if min(adds, against) >= MIXED else signed


def _place(row: Row, prefix: str) -> str:
    excess = {place: _excess(row, prefix, place) for place in PLACES}
    named = sorted((place for place in PLACES if excess[place] >= EXCESS), key=lambda place: -excess[place])
    if named:
        return " and ".join(PLACES[place] for place in named)
    if _excess(row, prefix, "local") >= EXCESS:
        return "local"
    distance, usual = row.get(f"{prefix}mean_distance"), row.get(f"{prefix}uniform_mean_distance")
    if distance is None or usual is None:
        return "unknown"
    return "far" if distance >= FAR * usual else "near" if distance <= NEAR * usual else "broad"


def _excess(row: Row, prefix: str, place: str) -> float:
    share, uniform = row.get(f"{prefix}{place}"), row.get(f"{prefix}uniform_{place}")
    if share is None or uniform is None or uniform >= 1:
        return 0.0
    return (share - uniform) / (1 - uniform)
