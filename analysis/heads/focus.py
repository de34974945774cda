"""One row an indexer head: everything that is known of it, with intervals, and what it focuses on in words."""

from __future__ import annotations

import polars as pl

from analysis.heads.spread import Spread
from analysis.heads.words import words
from analysis.metrics.summary import finite_or_null
from analysis.probe.head_measures import FOCUS, MEANS
from analysis.settings import BootstrapSettings
from analysis.statistics import ratio

AGAINST = tuple(f"against_{name}" for name in FOCUS)
BARE = (
    *("random_overlap", "random_recall"),
    *(f"{prefix}uniform_{name}" for prefix in ("", "against_") for name in FOCUS),
)
"""What chance or uniform scoring gives on the same queries: what the others are read beside, so without intervals."""
WEIGHTS = {name: weight for weight, means in MEANS.items() for name in means} | dict.fromkeys(
    ("recall_loss", "adds_share", "against_share"), "weight"
)
ESTIMATED = (
    *("contribution", "active_share", "positive_share", "own_overlap", "own_recall"),
    *("kept", "kept_without", "recall", "recall_with", "recall_without", "recall_loss"),
    *("adds_share", "against_share"),
    *FOCUS,
    *AGAINST,
)
FOCUSED = {
    "layer": pl.Int16,
    "indexer_head": pl.Int16,
    "words": pl.String,
    **{f"{name}{end}": pl.Float64 for name in ESTIMATED for end in ("", "_ci_low", "_ci_high")},
    **dict.fromkeys(BARE, pl.Float64),
    "n": pl.Int32,
}


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
    frames = [pl.DataFrame(schema=FOCUSED)]
    loss = heads.with_columns(
        recall_loss=pl.col("recall_with") - pl.col("recall_without"),
        adds_share=pl.col("focus_weight") / pl.col("weight"),
        against_share=pl.col("against_weight") / pl.col("weight"),
    )
    for _, own in loss.sort("layer").group_by("layer", maintain_order=True):
        spread = Spread(own, ("layer", "indexer_head"))
        columns: dict[str, object] = {}
        for name in ESTIMATED:
            found = spread.estimate(name, WEIGHTS[name], settings)
            columns |= {name: found.value, f"{name}_ci_low": found.low, f"{name}_ci_high": found.high}
        for name in BARE:
            top, bottom = spread.sums(name, WEIGHTS[name])
            columns[name] = ratio(top.sum(axis=0), bottom.sum(axis=0))
        frame = spread.cells.hstack(pl.DataFrame(columns).with_columns(finite_or_null(*columns)))
        frame = frame.with_columns(n=pl.Series((spread.sums("weight")[0] > 0).sum(axis=0)))
        said = [words(row) for row in frame.iter_rows(named=True)]
        frames.append(
            frame.with_columns(words=pl.Series(said, dtype=pl.String)).select(*FOCUSED).cast(pl.Schema(FOCUSED))
        )
    return pl.concat(frames)
