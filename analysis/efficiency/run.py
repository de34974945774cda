"""Cost metrics, the efficiency score, the projection of the formulas and the measured latency."""

from __future__ import annotations

import numpy as np
import polars as pl

from analysis.efficiency.flops import Flops, Shape, flops, shape
from analysis.efficiency.latency import latency, latency_metrics
from analysis.metrics.summary import METRICS, constants, summarise
from analysis.metrics.sums import PER_SAMPLE, Features, join, layered, per_sample, table_sums
from analysis.settings import EfficiencySettings

PROJECTION = {"length": pl.Int64, "component": pl.String, "flops": pl.Float64}


def run(features: Features, settings: EfficiencySettings) -> dict[str, pl.DataFrame]:
    """What indexer and attention cost, and the quality kept for it.

    Args:
        features: Feature tables; facts, profile, samples, tokens and attention are read, absent ones give no rows.
        settings: Lengths to project to, and the bootstrap.

    Returns:
        metrics: counts and FLOPs (no interval), latencies (interval: 5th to 95th percentile of the repeats, n repeats),
        relative_cost and efficiency_score (bootstrap over samples). efficiency_score is null without an indexer or
        without dense_nll.
        per_sample: relative_cost and sparsity_cost, of which the efficiency score is a function.
        projection: length, component (indexer, attention, dense_attention), flops of one prefill, all layers.
        latency: component, length, ms, low, high.
    """
    facts, samples = features.get("facts"), features.get("samples")
    measured = latency(features)
    frames = [pl.DataFrame(schema=METRICS), latency_metrics(features)]
    pairs, projection = pl.DataFrame(schema=PER_SAMPLE), pl.DataFrame(schema=PROJECTION)
    if facts is not None and not facts.is_empty():
        model = shape(facts, features.get("attention"))
        projection = _projection(model, settings)
        frames.append(_counts(facts, model))
        if samples is not None and not samples.is_empty():
            ordered = samples.sort("sample")
            tokens = ordered["tokens"].to_numpy().astype(float)
            spent = flops(model, tokens)
            frames.append(_per_token(model, spent, float(tokens.sum())))
            scored, pairs = _scored(features, model, ordered["sample"].to_numpy().astype(np.int64), spent, settings)
            frames.append(scored)
    return {"metrics": pl.concat(frames), "per_sample": pairs, "projection": projection, "latency": measured}


def _counts(facts: pl.DataFrame, model: Shape) -> pl.DataFrame:
    row = facts.row(0, named=True)
    counts = {"model_parameters": row["parameters"]}
    if model.top_k is not None:
        counts["indexer_parameters"] = row["indexer_parameters"]
    return constants(counts)


def _per_token(model: Shape, spent: Flops, tokens: float) -> pl.DataFrame:
    values = {
        "attention_flops": float(spent.attention.sum()) / tokens,
        "dense_attention_flops": float(spent.dense_attention.sum()) / tokens,
    }
    if model.top_k is not None:
        values["indexer_flops"] = float(spent.indexer.sum()) / tokens
    return constants(values)


def _scored(
    features: Features,
    model: Shape,
    samples: np.ndarray[tuple[int], np.dtype[np.int64]],
    spent: Flops,
    settings: EfficiencySettings,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The relative cost and the score as metrics, and what they are made of by sample."""
    if model.top_k is None:
        return constants({"efficiency_score": None}), pl.DataFrame(schema=PER_SAMPLE)
    cost = (spent.indexer + spent.attention)[:, None], spent.dense_attention[:, None]
    sums = join([layered(samples, [], {"relative_cost": cost}), table_sums(features, "tokens", ["sparsity_cost"])])
    frame = summarise(sums, settings).filter(pl.col("metric").is_in(["relative_cost", "efficiency_score"]))
    if "efficiency_score" not in frame["metric"]:
        frame = pl.concat([frame, constants({"efficiency_score": None})])
    return frame, per_sample(sums)


def _projection(model: Shape, settings: EfficiencySettings) -> pl.DataFrame:
    if not model.by_token:
        return pl.DataFrame(schema=PROJECTION)
    projected = flops(model, settings.project_lengths)
    parts = {"attention": projected.attention, "dense_attention": projected.dense_attention}
    if model.top_k is not None:
        parts = {"indexer": projected.indexer, **parts}
    else:
        del parts["attention"]
    frames = [
        pl.DataFrame(
            {"length": settings.project_lengths, "component": [component] * len(values), "flops": values},
            schema=PROJECTION,
        )
        for component, values in parts.items()
    ]
    return pl.concat(frames)
