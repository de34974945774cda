"""One row an indexer head: everything that is known of it, with intervals, and what it focuses on in words."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from indexscope.analysis.indexer_heads.spread import Spread
from indexscope.analysis.indexer_heads.tables import FOCUSED, HEADS
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.ranges import CHANGE, NOT_NEGATIVE, SHARE
from indexscope.analysis.statistics.resampling import ratio

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
WEIGHTS = HEADS.weights | dict.fromkeys(("recall_loss", "adds_share", "against_share"), "weight")
ESTIMATED = tuple(name for name in FOCUSED.schema if f"{name}_ci_low" in FOCUSED.schema)
WITHIN = {column.name: SHARE if column.unit == "share" else NOT_NEGATIVE for column in FOCUSED.columns} | {
    "recall_loss": CHANGE
}
BARE = tuple(name for name in HEADS.weights if name in FOCUSED.schema and name not in ESTIMATED)
"""What chance or uniform scoring gives on the same queries: what the others are read beside, so without intervals."""


def focus(heads: pl.DataFrame, settings: BootstrapSettings) -> pl.DataFrame:
    """Means of every head over all samples.

    Args:
        heads: The table ``indexer_heads``.
        settings: The bootstrap.

    Returns:
        layer, indexer_head, words, every mean with its interval (``x``, ``x_ci_low``, ``x_ci_high``), what chance and
        uniform scoring give, and n (samples). recall_loss is the recall with all heads less that
        without this one, adds_share and against_share the shares of the queries for which the head adds to the score
        of some key, or takes from it.
    """
    frames = [FOCUSED.empty()]
    loss = heads.with_columns(
        recall_loss=pl.col("recall_with") - pl.col("recall_without"),
        adds_share=pl.col("focus_weight") / pl.col("weight"),
        against_share=pl.col("against_weight") / pl.col("weight"),
    )
    for _, own in loss.sort("layer").group_by("layer", maintain_order=True):
        spread = Spread(own, ("layer", "indexer_head"))
        columns: dict[str, object] = {}
        for name in ESTIMATED:
            found = spread.estimate(name, WEIGHTS[name], settings, WITHIN[name])
            columns |= {name: found.value, f"{name}_ci_low": found.low, f"{name}_ci_high": found.high}
        for name in BARE:
            top, bottom = spread.sums(name, WEIGHTS[name])
            columns[name] = ratio(top.sum(axis=0), bottom.sum(axis=0))
        frame = spread.cells.hstack(pl.DataFrame(columns).with_columns(finite_or_null(*columns)))
        frame = frame.with_columns(n=pl.Series((spread.sums("weight")[0] > 0).sum(axis=0)))
        said = [words(row) for row in frame.iter_rows(named=True)]
        frames.append(FOCUSED.shaped(frame.with_columns(words=pl.Series(said, dtype=pl.String))))
    return pl.concat(frames)


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
