"""What single indexer heads do: focus, redundancy, loss without them, positions and scores."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from indexscope.analysis.heads.focus import focus
from indexscope.analysis.heads.lift import lift
from indexscope.analysis.heads.pruning import pruning
from indexscope.analysis.heads.scores import head_moments, head_quantiles
from indexscope.analysis.heads.sums import head_sums, pair_sums
from indexscope.analysis.heads.tables import PAIRED, PAIRS, RESULTS
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.summary import finite_or_null, summarise
from indexscope.analysis.metrics.sums import join, per_sample
from indexscope.analysis.settings import HeadsSettings
from indexscope.columns import empty

TABLES = ("indexer_heads", "indexer_head_pairs", "indexer_pruning", "indexer_head_positions", "indexer_head_scores")


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: HeadsSettings) -> dict[str, pl.DataFrame]:
    """Summarise the probe's tables of indexer heads.

    Args:
        features: Tables of the probe; those that are absent give empty frames. Read shard by shard; pairs of heads, of
            which there are most, are summed up as they come.
        settings: Quantiles and the bootstrap.

    Returns:
        metrics and per_sample: head_agreement, head_effective, head_redundancy, head_correlation, leave_one_out_loss.
        focus: `indexscope.analysis.heads.focus`. pairs: layer, head_a, head_b, cosine, correlation, overlap, n.
        pruning: `indexscope.analysis.heads.pruning`. lift: `indexscope.analysis.heads.lift`.
        score_moments and score_quantiles: as in the analysis distribution, with the column indexer_head.
    """
    tables, pairs, pair_samples = _read(features)
    found = empty(RESULTS)
    parts = []
    if "indexer_heads" in tables:
        parts.append(head_sums(tables["indexer_heads"]))
        found["focus"] = focus(tables["indexer_heads"], settings)
    if not pairs.is_empty():
        parts.append(pair_sums(pair_samples))
        found["pairs"] = pairs
    if parts:
        sums = join(parts)
        found |= {"metrics": summarise(sums, settings), "per_sample": per_sample(sums)}
    if "indexer_pruning" in tables:
        found["pruning"] = pruning(tables["indexer_pruning"], settings)
    if "indexer_head_positions" in tables:
        found["lift"] = lift(tables["indexer_head_positions"], settings)
    if "indexer_head_scores" in tables:
        scores = tables["indexer_head_scores"]
        found["score_moments"] = head_moments(scores)
        found["score_quantiles"] = head_quantiles(scores, settings.quantiles)
    return found


def _read(
    features: Mapping[str, pl.DataFrame] | Sharded,
) -> tuple[dict[str, pl.DataFrame], pl.DataFrame, pl.DataFrame]:
    """The tables that have rows, ordered by sample; pairs by pair; and pairs by sample and layer."""
    parts: dict[str, list[pl.DataFrame]] = {}
    by_pair, by_sample = [], []
    for shard in shards(features, TABLES):
        for name, frame in shard.items():
            if name != "indexer_head_pairs":
                parts.setdefault(name, []).append(frame)
            elif frame.height:
                ordered = frame.sort("sample", "layer", "head_a", "head_b")
                by_pair.append(_summed(ordered, ("layer", "head_a", "head_b"), {"n": "sample"}))
                by_sample.append(_means(_summed(ordered, ("sample", "layer"), {})))
    whole = {name: pl.concat(frames) for name, frames in parts.items()}
    tables = {name: frame.sort("sample", "layer") for name, frame in whole.items() if frame.height}
    if not by_pair:
        return tables, PAIRED.empty(), pl.DataFrame()
    keys = ("layer", "head_a", "head_b")
    pairs = pl.concat(by_pair).group_by(keys, maintain_order=True).sum().sort(keys)
    return tables, PAIRED.shaped(_means(pairs)), pl.concat(by_sample)


def _summed(frame: pl.DataFrame, keys: tuple[str, ...], counts: Mapping[str, str]) -> pl.DataFrame:
    """Sums of value x weight and of weight, and numbers of distinct values of some columns."""
    tops = {name: (pl.col(name) * pl.col(weight)).sum() for name, weight in PAIRS.weights.items()}
    bottoms = {weight: pl.col(weight).sum() for weight in PAIRS.weights.values()}
    distinct = {name: pl.col(column).n_unique() for name, column in counts.items()}
    return frame.group_by(keys, maintain_order=True).agg(**tops, **bottoms, **distinct).sort(keys)


def _means(sums: pl.DataFrame) -> pl.DataFrame:
    means = [pl.col(name) / pl.col(weight) for name, weight in PAIRS.weights.items()]
    return sums.with_columns(means).with_columns(finite_or_null(*PAIRS.weights))
