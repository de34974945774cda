"""Distributions of single heads' scores: those of the index scores (`analysis.distribution.scores`), head by head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from analysis.distribution.scores import MOMENTS, QUANTILES, Scores, score_moments, score_quantiles


def head_moments(scores: pl.DataFrame) -> pl.DataFrame:
    """Exact moments by layer, indexer_head and group: count, mean, sd, minimum, maximum, zero_share.

    Args:
        scores: The table ``indexer_head_scores``.
    """
    return _by_head(scores, MOMENTS, score_moments)


def head_quantiles(scores: pl.DataFrame, quantiles: Sequence[float]) -> pl.DataFrame:
    """Quantiles by layer, indexer_head and group: quantile, value, count.

    Args:
        scores: The table ``indexer_head_scores``.
        quantiles: Which.
    """
    return _by_head(scores, QUANTILES, lambda own: score_quantiles(own, quantiles))


def with_head(schema: dict[str, type[pl.DataType]]) -> dict[str, type[pl.DataType]]:
    """The same schema with the indexer head after the layer."""
    return {"layer": schema["layer"], "indexer_head": pl.Int16, **schema}


def _by_head(
    scores: pl.DataFrame, schema: dict[str, type[pl.DataType]], of_head: Callable[[Scores], pl.DataFrame]
) -> pl.DataFrame:
    names = with_head(schema)
    frames = [pl.DataFrame(schema=names)]
    for (head,), own in scores.sort("indexer_head").group_by("indexer_head", maintain_order=True):
        scores_of_head = Scores()
        scores_of_head.add(own)
        frames.append(of_head(scores_of_head).with_columns(indexer_head=pl.lit(head, pl.Int16)).select(*names))
    return pl.concat(frames).sort("layer", "indexer_head", maintain_order=True)
