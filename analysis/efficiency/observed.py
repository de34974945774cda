"""What a model's features tell of its shape, beyond its facts."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.flops import Shape, shape
from indexscope.analysis.metrics.stream import shards
from indexscope.analysis.metrics.sums import Features


def observed_shape(facts: pl.DataFrame, features: Features) -> Shape:
    """Read the shape off a model's facts and features.

    Args:
        facts: The ``facts`` table.
        features: The feature tables, read shard by shard. ``layers`` says of every layer what it attends to. Only where
            it is absent is ``attention`` asked: sparse layers are then those in which a selection left something out
            (some families share an earlier layer's selection, so that there may be more of them than indexers).
    """
    layers = features.get("layers")
    known = layers is not None and not layers.is_empty()
    return shape(facts, layers, 0 if known or not facts["index_topk"][0] else _in_effect(features))


def _in_effect(features: Features) -> int:
    """Layers in which a selection left something out."""
    seen: set[int] = set()
    for shard in shards(features, ["attention"]):
        if "attention" in shard and "queries_in_effect" in shard["attention"].columns:
            seen |= set(shard["attention"].filter(pl.col("queries_in_effect") > 0)["layer"].unique())
    return len(seen)
