"""Cost metrics, the efficiency score, projections, measured time and memory, and the front of patterns."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.efficiency.latency import latency, latency_metrics
from indexscope.analysis.efficiency.observed import observed_shape
from indexscope.analysis.efficiency.patterns import patterns_pareto
from indexscope.analysis.efficiency.projection import break_even, break_even_length, projection
from indexscope.analysis.flops import Flops, Shape, flops
from indexscope.analysis.metrics.stream import shards
from indexscope.analysis.metrics.summary import constants, summarise
from indexscope.analysis.metrics.sums import Features, Sums, join, layered, per_sample, table_sums
from indexscope.analysis.metrics.tables import METRICS, PER_SAMPLE
from indexscope.analysis.settings import EfficiencySettings


def run(features: Features, settings: EfficiencySettings) -> dict[str, pl.DataFrame]:
    """What indexer and attention cost, and the quality kept for it.

    Args:
        features: Feature tables; facts, layers, profile, samples, tokens, attention and heads are read, the last four
            shard by shard; absent ones give no rows.
        settings: Lengths to project to, and the bootstrap.

    Returns:
        metrics: counts and FLOPs (no interval), break_even_length, time, memory (see `latency_metrics`),
        relative_cost and efficiency_score (bootstrap over samples). efficiency_score is null without an indexer or
        without dense_nll.
        per_sample: relative_cost and sparsity_cost, of which the efficiency score is a function.
        projection: dimensions (this checkpoint, DeepSeek-V3.2), length, component (indexer, attention,
        dense_attention), flops of one prefill, all layers.
        break_even: dimensions, length.
        latency: component, length, ms, low, high, time_share, peak_bytes.
        patterns_pareto: see `patterns_pareto`.
    """
    facts = features.get("facts")
    frames = [METRICS.empty(), latency_metrics(features)]
    pairs, model = PER_SAMPLE.empty(), None
    if facts is not None and not facts.is_empty():
        model = observed_shape(facts, features)
        frames.append(_counts(facts, model))
        samples, tokens, quality = _samples(features)
        if len(samples):
            spent = flops(model, tokens)
            frames.append(_per_token(model, spent, float(tokens.sum())))
            scored, pairs = _scored(model, samples, spent, quality, settings)
            frames.append(scored)
    return {
        "metrics": pl.concat(frames),
        "per_sample": pairs,
        "projection": projection(model, settings.project_lengths),
        "break_even": break_even(model),
        "latency": latency(features),
        "patterns_pareto": patterns_pareto(features, settings),
    }


def _samples(features: Features) -> tuple[NDArray[np.int64], NDArray[np.float64], list[Sums]]:
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
        values["indexer_flops"] = float(spent.indexer.sum()) / tokens
    return constants(values)


def _scored(
    model: Shape, samples: NDArray[np.int64], spent: Flops, quality: list[Sums], settings: EfficiencySettings
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The relative cost and the score as metrics, and what they are made of by sample."""
    if model.top_k is None:
        return constants({"efficiency_score": None}), PER_SAMPLE.empty()
    cost = (spent.indexer + spent.attention)[:, None], spent.dense_attention[:, None]
    sums = join([layered(samples, [], {"relative_cost": cost}), _stack(quality)])
    frame = summarise(sums, settings).filter(pl.col("metric").is_in(["relative_cost", "efficiency_score"]))
    if "efficiency_score" not in frame["metric"]:
        frame = pl.concat([frame, constants({"efficiency_score": None})])
    return frame, per_sample(sums)
