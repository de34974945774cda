"""Which layers, heads and pattern types keep quality at least cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from scipy.special import stdtrit

from indexscope.analysis.clustering.pattern_types import classify
from indexscope.analysis.clustering.rows import KEYS, pattern_rows
from indexscope.analysis.efficiency.tables import PATTERNS_PARETO
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.stream import shards
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.metrics.sums import Features
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.pareto import pareto
from indexscope.analysis.statistics.ranges import around
from indexscope.analysis.statistics.resampling import expansion, ratio

#: Value and the column of the attention table that it is the mean of, over queries in effect.
VALUES = {"cost": "keys_for_95", "quality": "head_recall", "output_error": "output_error"}
LEVELS: Mapping[str, tuple[str, ...]] = {
    "layer": ("layer",),
    "head": ("layer", "head"),
    "pattern type": ("pattern_type",),
}
#: Shards whose moments are kept before they are summed.
TOGETHER = 64
_GROUP = ("level", "layer", "head", "pattern_type")
_MOMENTS = ("top", "bottom", "top_top", "top_bottom", "bottom_bottom")


def patterns_pareto(features: Features, settings: BootstrapSettings) -> pl.DataFrame:
    """Cost and quality of each layer, head and pattern type under the model's own selection, and their front.

    Cost is the share of the eligible keys that hold 95 % of a head's attention, quality its recall, both over queries
    in effect (a bucket's mean cost weighs by its queries in effect). Each is a ratio of sums over samples; its interval
    is t sqrt(n / (n - 1) sum_i (N_i - r D_i)^2) / sum_i D_i around the estimate on the scale of its range, the error
    that of the bootstrap by linearisation, which needs sums alone, so that tables of any size are read shard by shard.

    Returns:
        level (layer, head, pattern type), layer, head, pattern_type (null where the level does not have it), cost and
        quality with bounds, output_error with bounds, on_front (among the rows of the level), n (samples). Empty
        without an indexer.
    """
    found: list[pl.DataFrame] = []
    for shard in shards(features, ["attention", "heads"]):
        if (part := _moments(shard)) is not None:
            found.append(part)
        if len(found) == TOGETHER:
            found = [_sum(found)]
    if not found:
        return PATTERNS_PARETO.empty()
    sums = _sum(found)
    sums = sums.with_columns(found for name in VALUES for found in _estimate(sums, name, settings.confidence))
    names = [f"{name}{end}" for name in VALUES for end in ("", "_low", "_high")]
    sums = sums.with_columns(finite_or_null(*names)).filter(pl.col("quality").is_not_null())
    parts = []
    for level in LEVELS:
        own = sums.filter(pl.col("level") == level).sort("layer", "head", "pattern_type")
        front = pareto(own["cost"].to_numpy(), own["quality"].to_numpy())
        parts.append(own.with_columns(on_front=pl.Series(front, dtype=pl.Boolean)))
    return PATTERNS_PARETO.shaped(pl.concat(parts))


def _sum(parts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts).group_by(_GROUP, maintain_order=True).sum()


def _moments(shard: Mapping[str, pl.DataFrame]) -> pl.DataFrame | None:
    """First and second moments over samples of numerators and denominators, by level and group."""
    attention = shard.get("attention")
    needed = {"queries_in_effect", *VALUES.values()}
    if attention is None or attention.is_empty() or not needed <= set(attention.columns):
        return None
    rows = attention.filter(pl.col("queries_in_effect") > 0).sort(*KEYS, "bucket")
    if rows.is_empty():
        return None
    weight = pl.col("queries_in_effect").cast(pl.Float64)
    sums = [
        part
        for name, column in VALUES.items()
        for part in (
            (pl.col(column) * weight).sum().alias(f"{name}_top"),
            weight.filter(pl.col(column).is_not_null()).sum().alias(f"{name}_bottom"),
        )
    ]
    heads = rows.group_by(KEYS, maintain_order=True).agg(sums)
    typed = pattern_rows(shard)
    typed = typed.select(KEYS).with_columns(pattern_type=pl.Series(classify(typed)[0], dtype=pl.String))
    heads = heads.join(typed, on=list(KEYS), how="left", maintain_order="left")
    return pl.concat([_level(heads, level, by) for level, by in LEVELS.items()])


def _level(heads: pl.DataFrame, level: str, by: tuple[str, ...]) -> pl.DataFrame:
    known = heads.filter(pl.all_horizontal(pl.col(name).is_not_null() for name in by))
    names = [f"{name}_{part}" for name in VALUES for part in ("top", "bottom")]
    samples = known.group_by("sample", *by, maintain_order=True).agg(pl.col(names).sum())
    squares = [
        (pl.col(f"{name}_{one}") * pl.col(f"{name}_{other}")).alias(f"{name}_{one}_{other}")
        for name in VALUES
        for one, other in (("top", "top"), ("top", "bottom"), ("bottom", "bottom"))
    ]
    moments = samples.with_columns(squares).with_columns(n=pl.lit(1, dtype=pl.Int64))
    wanted = [f"{name}_{part}" for name in VALUES for part in _MOMENTS]
    kinds = {"layer": pl.Int16, "head": pl.Int16, "pattern_type": pl.String}
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in kinds.items() if name not in by]
    summed = moments.group_by(by, maintain_order=True).agg(pl.col(wanted).sum(), pl.col("n").sum())
    return summed.with_columns(pl.lit(level).alias("level"), *absent).select(*_GROUP, *wanted, "n")


def _estimate(sums: pl.DataFrame, name: str, confidence: float) -> list[pl.Series]:
    top, bottom, squares, mixed, weights = (sums[f"{name}_{part}"].to_numpy() for part in _MOMENTS)
    value = ratio(top, bottom)
    spread = ratio(np.sqrt(np.maximum(squares - 2 * value * mixed + value**2 * weights, 0.0)), bottom)
    n = sums["n"].to_numpy()
    t = stdtrit(np.maximum(n - 1, 1), 0.5 + confidence / 2)
    low, high = around(value, expansion(n) * spread, t, REGISTRY[VALUES[name]].bounds)
    found = {name: value, f"{name}_low": low, f"{name}_high": high}
    return [pl.Series(column, values) for column, values in found.items()]
