"""Cost metrics, the efficiency score, projections, measured time and memory, and the front of patterns."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.conventions import SERVED
from indexscope.analysis.efficiency import EfficiencySettings
from indexscope.analysis.efficiency.patterns import patterns_pareto
from indexscope.analysis.efficiency.projection import break_even_length, conventions, projection
from indexscope.analysis.efficiency.tables import LATENCY
from indexscope.analysis.features.at_lengths import at_lengths
from indexscope.analysis.flops import Flops, Shape, flops, shape
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.summary import constants, finite_or_null, summarise
from indexscope.analysis.metrics.sums import Features, Sums, join, layered, per_sample, table_sums
from indexscope.analysis.metrics.tables import METRICS, PER_SAMPLE, at_each_length

#: Raise it when any number of the analysis would change.
VERSION = 8


def run(features: Features, settings: EfficiencySettings) -> dict[str, pl.DataFrame]:
    """What indexer and attention cost, and the quality kept for it.

    Args:
        features: Feature tables; facts, layers, profile, samples, tokens, attention and heads are read, the last four
            shard by shard; absent ones give no rows.
        settings: Lengths to project to, and the bootstrap.

    Returns:
        metrics: counts and FLOPs (no interval), break_even_length, time, memory (see `latency_metrics`),
        relative_cost and efficiency_score (bootstrap over samples; the cost of a model without an indexer is 1).
        efficiency_score is null without an indexer or
        without dense_nll.
        per_sample: relative_cost and sparsity_cost, of which the efficiency score is a function.
        projection: dimensions (this checkpoint, DeepSeek-V3.2), convention, length, component (indexer, attention,
        dense_attention), flops of one prefill, all layers.
        conventions: dimensions, convention, break_even_length, relative_cost. Metrics are as served.
        latency: component, length, ms, low, high, time_share, peak_bytes.
        patterns_pareto: see `patterns_pareto`.
        at_lengths and at_lengths_by_sample: what depends on the samples, at each length that the study asks for.
    """
    facts = features.get("facts")
    frames = [METRICS.empty(), latency_metrics(features)]
    pairs, model, lengths = PER_SAMPLE.empty(), None, np.zeros(0)
    if facts is not None and not facts.is_empty():
        model = observed_shape(facts, features)
        frames.append(_counts(facts, model))
        of_samples, pairs, lengths = _of_samples(model, features, settings)
        frames.append(of_samples)
    return {
        **_at_lengths(model, features, settings),
        "metrics": pl.concat(frames),
        "per_sample": pairs,
        "projection": projection(model, settings.project_lengths),
        "conventions": conventions(model, lengths),
        "latency": latency(features),
        "patterns_pareto": patterns_pareto(features, settings),
    }


def _of_samples(
    model: Shape, features: Features | Sharded, settings: EfficiencySettings
) -> tuple[pl.DataFrame, pl.DataFrame, NDArray[np.float64]]:
    """Costs at the lengths of samples: metrics, what they are made of by sample, and the lengths."""
    samples, lengths, quality = _samples(features)
    if not len(samples):
        return METRICS.empty(), PER_SAMPLE.empty(), lengths
    spent = flops(model, lengths, SERVED)
    scored, pairs = _scored(model, samples, spent, quality, settings)
    return pl.concat([_per_token(model, spent, float(lengths.sum())), scored]), pairs, lengths


def _at_lengths(model: Shape | None, features: Features, settings: EfficiencySettings) -> dict[str, pl.DataFrame]:
    if model is None:
        return at_each_length(())
    found = ((length, _of_samples(model, own, settings)) for length, own in at_lengths(features).items())
    return at_each_length((length, {"metrics": metrics, "per_sample": pairs}) for length, (metrics, pairs, _) in found)


def _samples(features: Features | Sharded) -> tuple[NDArray[np.int64], NDArray[np.float64], list[Sums]]:
    """Ids and tokens of all samples in order, and their sparsity cost by shard."""
    found, quality = [], []
    for shard in shards(features, ["samples", "tokens"]):
        if "samples" in shard:
            found.append(shard["samples"].select("sample", "tokens"))
        quality.append(table_sums(shard, "tokens", ["sparsity_cost"]))
    frame = pl.concat(found).sort("sample") if found else pl.DataFrame(schema={"sample": pl.Int64, "tokens": pl.Int64})
    ids = frame["sample"].to_numpy().astype(np.int64)
    return ids, frame["tokens"].to_numpy().astype(np.float64), [part for part in quality if part.cells]


def _stack(parts: list[Sums]) -> Sums:
    """The same cells of different samples, one below the other."""
    if not parts:
        return join([])
    order = np.argsort(np.concatenate([part.samples for part in parts]), kind="stable")
    return Sums(
        np.concatenate([part.samples for part in parts])[order],
        parts[0].cells,
        np.concatenate([part.numerator for part in parts])[order],
        np.concatenate([part.denominator for part in parts])[order],
    )


def _counts(facts: pl.DataFrame, model: Shape) -> pl.DataFrame:
    row = facts.row(0, named=True)
    counts: dict[str, float | None] = {"model_parameters": row["parameters"]}
    if model.top_k is not None:
        counts["indexer_parameters"] = row["indexer_parameters"]
        counts["break_even_length"] = break_even_length(model)
    return constants(counts)


def _per_token(model: Shape, spent: Flops, tokens: float) -> pl.DataFrame:
    values: dict[str, float | None] = {
        "attention_flops": float(spent.attention.sum()) / tokens,
        "dense_attention_flops": float(spent.dense_attention.sum()) / tokens,
    }
    if model.top_k is not None:
        # Of the metric every operation counts whole, in whatever precision.
        values["indexer_flops"] = float(spent.indexer.sum()) / model.indexer_weight(SERVED) / tokens
    return constants(values)


def _scored(
    model: Shape, samples: NDArray[np.int64], spent: Flops, quality: list[Sums], settings: EfficiencySettings
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The relative cost and the score as metrics, and what they are made of by sample.

    Without an indexer the cost is that of dense attention, 1, and there is no score.
    """
    cost = (spent.indexer + spent.attention)[:, None], spent.dense_attention[:, None]
    sums = join([layered(samples, [], {"relative_cost": cost}), _stack(quality if model.top_k is not None else [])])
    frame = summarise(sums, settings).filter(pl.col("metric").is_in(["relative_cost", "efficiency_score"]))
    if "efficiency_score" not in frame["metric"]:
        frame = pl.concat([frame, constants({"efficiency_score": None})])
    return frame, per_sample(sums)


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


def latency(features: Features) -> pl.DataFrame:
    """Time and memory of one prefill by component and length.

    Returns:
        component, length, ms with low and high (median, 5th and 95th percentile of the repeats; null for one),
        time_share (of the model's median time; selection is part of indexer), peak_bytes (null where it was not
        measured).
    """
    profile = features.get("profile")
    if profile is None or profile.is_empty():
        return LATENCY.empty()
    whole = pl.col("milliseconds").filter(pl.col("component") == "model").first().over("length")
    rows = profile.with_columns(time_share=pl.col("milliseconds") / whole).with_columns(finite_or_null("time_share"))
    return rows.sort("component", "length").select(
        pl.col("component"),
        pl.col("length").cast(pl.Int64),
        ms=pl.col("milliseconds"),
        low=_of_several("milliseconds_low"),
        high=_of_several("milliseconds_high"),
        time_share=pl.col("time_share"),
        peak_bytes=pl.col("peak_bytes").cast(pl.Int64) if "peak_bytes" in rows.columns else pl.lit(None, pl.Int64),
    )


def _of_several(percentile: str) -> pl.Expr:
    """A percentile of the repeats; null where there was one, which has no spread."""
    return pl.when(pl.col("repeats") > 1).then(pl.col(percentile))


def latency_metrics(features: Features) -> pl.DataFrame:
    """Times, memory and shares of time at the longest profiled length.

    Returns:
        <component>_latency_ms with the range of the repeats and their number; <component>_peak_bytes (measured once)
        and indexer_time_share (a ratio of medians) without bounds.
    """
    profile = features.get("profile")
    if profile is None or profile.is_empty():
        return METRICS.empty()
    longest = profile.filter(pl.col("length") == pl.col("length").max())
    measured = latency(features).filter(pl.col("length") == pl.col("length").max())
    times = longest.select(
        metric=pl.col("component") + "_latency_ms",
        value=pl.col("milliseconds"),
        ci_low=_of_several("milliseconds_low"),
        ci_high=_of_several("milliseconds_high"),
        n=pl.col("repeats").cast(pl.Int32),
    )
    shares = measured.select(metric=pl.col("component") + "_time_share", value=pl.col("time_share"))
    bytes_ = measured.select(metric=pl.col("component") + "_peak_bytes", value=pl.col("peak_bytes").cast(pl.Float64))
    units = {name: metric.unit for name, metric in REGISTRY.items() if metric.table == "profile"}
    rows = pl.concat([times, shares, bytes_], how="diagonal").filter(pl.col("metric").is_in(list(units)))
    rows = rows.filter(pl.col("value").is_not_null())
    unit = pl.col("metric").replace_strict(units, return_dtype=pl.String)
    rows = rows.with_columns(layer=pl.lit(None, dtype=pl.Int16), unit=unit).select(*METRICS.schema)
    return rows.cast(METRICS.schema).sort("metric")
