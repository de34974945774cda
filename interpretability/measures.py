"""The pipeline's metrics of given attention maps: extracted, averaged and bounded by `analysis` alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
import torch

from indexscope.analysis.features.given import given_tables
from indexscope.analysis.metrics.summary import summarise
from indexscope.analysis.metrics.sums import Features, join, table_sums
from indexscope.analysis.settings import BootstrapSettings, ExtractSettings
from interpretability.inputs import Maps
from interpretability.results import Result

BOOTSTRAP = BootstrapSettings()
# The metric behind each field that is not called like it.
_METRIC = {"entropy": "attention_entropy"}


@dataclass(frozen=True, eq=False, repr=False)
class AttentionMeasures(Result):
    """What one layer's attention is like: means over samples, heads and queries (definitions: docs/metrics.md).

    None stands for what is not defined: normalised entropy where no query has two keys, the local/global ratio where
    nothing lies beyond the window.

    Attributes:
        entropy: In nats.
        normalized_entropy: Entropy / ln n_t, a share; 1 is uniform attention.
        effective_keys: Keys that uniform attention of the same entropy would have.
        participation: 1 / sum p^2, keys.
        sparsity_ratio: Share of eligible keys with less than 0.01 of the attention (settings.sparsity_threshold).
        max_weight: Largest weight of a query, a share.
        top_5_mass: Attention on the 5 most attended keys, a share; the next ones likewise.
        top_10_mass: See above.
        top_20_mass: See above.
        top_64_mass: See above.
        keys_for_95: Share of the eligible keys that it takes to hold 95 % of the attention.
        local_mass: Attention within 32 keys, the query's own included (settings.local_window), a share.
        local_global_ratio: Attention within the window over attention beyond it, a ratio of sums.
        sink_mass: Attention on the first 4 keys (settings.sink_keys), a share.
        self_mass: Attention on the query itself, a share.
        previous_mass: Attention on the token before the query, a share.
        mean_distance: In tokens; both ways in maps that are not causal.
        causal: Whether queries have only the keys up to themselves.
        samples: Samples, the n of the intervals.
        layers: Layers; tables by head name the layer where there are several.
        heads: Attention heads of each.
        length: Tokens.
        by_head: head and each of the above.
        by_position: first_query, last_query, queries (per head and sample) and each of the above: powers of two, since
            entropy and sparsity grow with the keys that there are.
        metrics: metric, head (null for all), value, unit, ci_low, ci_high, n (samples); intervals resample samples.
    """

    entropy: float
    normalized_entropy: float | None
    effective_keys: float
    participation: float
    sparsity_ratio: float
    max_weight: float
    top_5_mass: float
    top_10_mass: float
    top_20_mass: float
    top_64_mass: float
    keys_for_95: float
    local_mass: float
    local_global_ratio: float | None
    sink_mass: float
    self_mass: float
    previous_mass: float
    mean_distance: float
    causal: bool
    samples: int
    layers: int
    heads: int
    length: int
    by_head: pl.DataFrame
    by_position: pl.DataFrame
    metrics: pl.DataFrame


NUMBERS = AttentionMeasures._names()[: AttentionMeasures._names().index("causal")]


def tables_of(
    maps: Maps,
    settings: ExtractSettings,
    selected: torch.Tensor | None = None,
    input_ids: torch.Tensor | None = None,
) -> dict[str, pl.DataFrame]:
    """Feature tables of checked maps."""
    return given_tables(maps.weights, maps.eligible, settings, selected, input_ids)


def measure(maps: Maps, features: Features) -> AttentionMeasures:
    """The measures of maps from their feature tables."""
    attention = features["attention"]
    # Without token ids nothing is known of copies; the table says 0.
    metrics = by_part(features, "head").filter(pl.col("metric") != "induction_mass")
    overall: dict[str, Any] = {
        row["metric"]: row["value"] for row in metrics.filter(pl.col("head").is_null()).to_dicts()
    }
    places = attention.group_by("bucket").agg(queries=pl.col("queries").first()).sort("bucket")
    first = pl.lit(2).pow(pl.col("bucket").cast(pl.Int64)) - 1
    places = places.with_columns(first_query=first, last_query=first + pl.col("queries") - 1)
    by_position = wide(by_part(features, "bucket"), "bucket")
    by_position = places.join(by_position, on="bucket", how="left").sort("bucket")
    return AttentionMeasures(
        **{name: overall[_METRIC.get(name, name)] for name in NUMBERS},
        causal=maps.causal,
        samples=maps.batch,
        layers=maps.layers,
        heads=maps.heads // maps.layers,
        length=maps.length,
        by_head=wide(metrics.filter(pl.col("head").is_not_null()), "head"),
        by_position=by_position.select("first_query", "last_query", "queries", *NUMBERS),
        metrics=metrics,
    )


def by_part(features: Features, part: str, tables: tuple[str, ...] = ("attention",)) -> pl.DataFrame:
    """Metrics of the attention table with their intervals, for all rows and by the values of one of its keys.

    Args:
        features: Feature tables of one layer.
        part: head or bucket.
        tables: Tables whose metrics are wanted.

    Returns:
        metric, the part (null for all), value, unit, ci_low, ci_high, n (samples).
    """
    # The sums know samples and layers: the part stands in for the layer.
    keyed = {
        name: frame.with_columns(layer=pl.col(part).cast(pl.Int16)) if part in frame.columns else frame.drop("layer")
        for name, frame in features.items()
        if name in tables or name == "indexer"
    }
    found = summarise(join([table_sums(keyed, table) for table in tables]), BOOTSTRAP)
    return found.rename({"layer": part})


def wide(metrics: pl.DataFrame, part: str) -> pl.DataFrame:
    """A row a part and a column a metric, under the names of `AttentionMeasures`."""
    rows = metrics.filter(pl.col(part).is_not_null())
    found = rows.pivot("metric", index=part, values="value", maintain_order=True).sort(part)
    columns = {name: _METRIC.get(name, name) for name in NUMBERS}
    missing = pl.lit(None, dtype=pl.Float64)
    known = [(pl.col(metric) if metric in found.columns else missing).alias(name) for name, metric in columns.items()]
    return found.select(part, *known)
