"""What single indexer heads do: focus, redundancy, loss without them, positions and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from indexscope.analysis.distribution.scores import Scores, score_moments, score_quantiles
from indexscope.analysis.indexer_heads import IndexerHeadsSettings
from indexscope.analysis.indexer_heads.focus import focus
from indexscope.analysis.indexer_heads.spread import Spread, estimate
from indexscope.analysis.indexer_heads.sums import head_sums, pair_sums
from indexscope.analysis.indexer_heads.tables import (
    HEAD_MOMENTS,
    HEAD_QUANTILES,
    LIFTED,
    PAIRED,
    PAIRS,
    PRUNED,
    RESULTS,
)
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.summary import finite_or_null, summarise
from indexscope.analysis.metrics.sums import join, per_sample
from indexscope.analysis.positional_bias.lift import label
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.ranges import CHANGE, NOT_NEGATIVE, SHARE
from indexscope.columns import Table, empty

#: Raise it when any number of the analysis would change.
VERSION = 2

TABLES = ("indexer_heads", "indexer_head_pairs", "indexer_pruning", "indexer_head_positions", "indexer_head_scores")


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: IndexerHeadsSettings) -> dict[str, pl.DataFrame]:
    """Summarise the close-up's tables of indexer heads.

    Args:
        features: Tables of the close-up; those that are absent give empty frames. Read shard by shard; pairs of heads,
            of which there are most, are summed up as they come.
        settings: Quantiles and the bootstrap.

    Returns:
        metrics and per_sample: head_agreement, head_effective, head_redundancy, head_correlation, leave_one_out_loss,
            negative_head_weights.
        focus: `indexscope.analysis.indexer_heads.focus`. pairs: layer, head_a, head_b, cosine, correlation, overlap, n.
        pruning: `indexscope.analysis.indexer_heads.run`. lift: `indexscope.analysis.indexer_heads.run`.
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


def lift(positions: pl.DataFrame, settings: BootstrapSettings) -> pl.DataFrame:
    """Selections of each head's own top k over those of a random selector, by bin, with bands by resampling samples.

    Args:
        positions: The table ``indexer_head_positions``.
        settings: The bootstrap.

    Returns:
        layer, indexer_head, axis, bin, label, lift, ci_low, ci_high, selections, expected, n (samples that reach the
        bin).
    """
    frames = [LIFTED.empty()]
    # A layer at a time bounds the memory; the resamples are the same in all.
    for (axis, _), own in positions.sort("axis", "layer").group_by("axis", "layer", maintain_order=True):
        spread = Spread(own, ("layer", "indexer_head", "bin"))
        selections, expected = spread.sums("selections")[0], spread.sums("expected_selections")[0]
        found = estimate(selections, expected, settings, NOT_NEGATIVE)
        columns = {
            "lift": found.value,
            "ci_low": found.low,
            "ci_high": found.high,
            "selections": selections.sum(axis=0),
            "expected": expected.sum(axis=0),
            "n": found.n,
        }
        frame = spread.cells.hstack(pl.DataFrame(columns)).with_columns(
            *finite_or_null("lift", "ci_low", "ci_high"),
            axis=pl.lit(str(axis)),
            label=pl.Series([label(str(axis), int(bin_)) for bin_ in spread.cells["bin"]], dtype=pl.String),
        )
        frames.append(LIFTED.shaped(frame))
    return pl.concat(frames).sort("layer", "indexer_head", "axis", "bin")


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


def pruning(table: pl.DataFrame, settings: BootstrapSettings) -> pl.DataFrame:
    """Loss of recall against the selection by all heads, paired within samples.

    Args:
        table: The table ``indexer_pruning``.
        settings: The bootstrap.

    Returns:
        layer (null: that many heads removed from every layer, as long as each has one left), removed, indexer_head (the
        one that goes at this step; null at first and over all layers), recall, recall_loss (> 0 is a loss) with ci_low
        and ci_high, overlap with S_t, flops_share (what remains of the FLOPs of the indexers' query-key products) and n
        (samples).
    """
    if table.is_empty():
        return PRUNED.empty()
    heads = table.group_by("layer").agg(heads=pl.col("removed").max() + 1).sort("layer")
    whole = table.filter(pl.col("removed") == 0).select("sample", "layer", all_heads="recall")
    paired = table.join(whole, on=["sample", "layer"]).with_columns(recall_loss=pl.col("all_heads") - pl.col("recall"))
    together = paired.filter(pl.col("removed") < heads["heads"].min())
    left = heads.select(pl.col("heads").cast(pl.Float64).sum(), layers=pl.len()).row(0)
    rows = _estimates(together, ("removed",), settings).with_columns(
        layer=pl.lit(None, pl.Int16),
        indexer_head=pl.lit(None, pl.Int16),
        flops_share=(left[0] - left[1] * pl.col("removed")) / left[0],
    )
    gone = table.select("layer", "removed", "indexer_head").unique()
    each = (
        _estimates(paired, ("layer", "removed"), settings)
        .join(gone, on=["layer", "removed"], how="left", maintain_order="left")
        .join(heads, on="layer", how="left", maintain_order="left")
        .with_columns(flops_share=(pl.col("heads") - pl.col("removed")) / pl.col("heads"))
    )
    return pl.concat([PRUNED.shaped(part) for part in (rows, each)])


def _estimates(frame: pl.DataFrame, keys: tuple[str, ...], settings: BootstrapSettings) -> pl.DataFrame:
    spread = Spread(frame, keys)
    loss = spread.estimate("recall_loss", "weight", settings, CHANGE)
    columns = {
        "recall": spread.estimate("recall", "weight", settings, SHARE).value,
        "recall_loss": loss.value,
        "ci_low": loss.low,
        "ci_high": loss.high,
        "overlap": spread.estimate("overlap", "weight", settings, SHARE).value,
        "n": loss.n,
    }
    frame = spread.cells.hstack(pl.DataFrame(columns))
    return frame.with_columns(finite_or_null("recall", "recall_loss", "ci_low", "ci_high", "overlap"))
