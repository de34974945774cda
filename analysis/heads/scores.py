"""Distributions of single heads' index scores, as in `indexscope.analysis.distribution.scores`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from indexscope.analysis.distribution.scores import Scores, score_moments, score_quantiles
from indexscope.analysis.heads.tables import HEAD_MOMENTS, HEAD_QUANTILES
from indexscope.columns import Table


def head_moments(scores: pl.DataFrame) -> pl.DataFrame:
    """Exact moments by layer, indexer_head and group: count, mean, sd, minimum, maximum, zero_share.

    Args:
        scores: The table ``indexer_head_scores``.
    """
    return _by_head(scores, HEAD_MOMENTS, score_moments)


def head_quantiles(scores: pl.DataFrame, quantiles: Sequence[float]) -> pl.DataFrame:
    """Quantiles by layer, indexer_head and group: quantile, value, count.

    Args:
        scores: The table ``indexer_head_scores``.
        quantiles: Which.
    """
    return _by_head(scores, HEAD_QUANTILES, lambda own: score_quantiles(own, quantiles))


def _by_head(scores: pl.DataFrame, table: Table, of_head: Callable[[Scores], pl.DataFrame]) -> pl.DataFrame:
    frames = [table.empty()]
    for (head,), own in scores.sort("indexer_head").group_by("indexer_head", maintain_order=True):
        scores_of_head = Scores()
        scores_of_head.add(own)
        frames.append(of_head(scores_of_head).with_columns(indexer_head=pl.lit(head, pl.Int16)).select(*table.schema))
    return pl.concat(frames).sort("layer", "indexer_head", maintain_order=True)
