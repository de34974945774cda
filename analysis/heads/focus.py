"""One row an indexer head: everything that is known of it, with intervals, and what it focuses on in words."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.heads.spread import Spread
from indexscope.analysis.heads.tables import FOCUSED, HEADS
from indexscope.analysis.heads.words import words
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics import ratio

WEIGHTS = HEADS.weights | dict.fromkeys(("recall_loss", "adds_share", "against_share"), "weight")
ESTIMATED = tuple(name for name in FOCUSED.schema if f"{name}_ci_low" in FOCUSED.schema)
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
            found = spread.estimate(name, WEIGHTS[name], settings)
            columns |= {name: found.value, f"{name}_ci_low": found.low, f"{name}_ci_high": found.high}
        for name in BARE:
            top, bottom = spread.sums(name, WEIGHTS[name])
            columns[name] = ratio(top.sum(axis=0), bottom.sum(axis=0))
        frame = spread.cells.hstack(pl.DataFrame(columns).with_columns(finite_or_null(*columns)))
        frame = frame.with_columns(n=pl.Series((spread.sums("weight")[0] > 0).sum(axis=0)))
        said = [words(row) for row in frame.iter_rows(named=True)]
        frames.append(FOCUSED.shaped(frame.with_columns(words=pl.Series(said, dtype=pl.String))))
    return pl.concat(frames)
