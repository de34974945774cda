"""What attention patterns cost, what is kept for it, and which ones nothing else beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from indexscope.analysis.clustering.rows import pattern_rows
from indexscope.analysis.efficiency import EfficiencySettings
from indexscope.analysis.efficiency.metrics import score
from indexscope.analysis.efficiency.patterns import patterns_pareto
from indexscope.analysis.metrics.sums import Features
from indexscope.analysis.statistics.pareto import pareto
from indexscope.analysis.statistics.resampling import Array, ratio
from interpretability.inputs import Maps
from interpretability.measures import BOOTSTRAP
from interpretability.outputs import LIKELIHOOD, Quality
from interpretability.patterns import typed
from interpretability.results import Result

RECALL = "recall, the dense attention inside the selection"
KEPT = "quality kept, exp(dense nll - nll)"
_MEANS = {"computational_cost": "keys_for_95", "sparsity_ratio": "sparsity_ratio"}


@dataclass(frozen=True, eq=False, repr=False)
class EfficiencyMetrics(Result):
    """Cost of attention patterns beside the quality of the model that has them.

    Attributes:
        computational_cost: Share of the eligible keys that it takes to hold 95 % of the attention (keys_for_95), mean
            over maps: what a selection made for each head would have to attend to, relative to dense attention.
        attended_share: Share of the eligible pairs of query and key whose weight is not exactly 0; 1 for dense softmax.
        quality: exp(-nll), the probability of the true token (geometric mean); None where the outputs do not tell.
        quality_maintenance: exp(dense nll - nll), the perplexity ratio dense / sparse, 1 where nothing is lost; None
            without dense_logits or dense_loss among the outputs.
        efficiency_score: quality_maintenance (or quality, without a reference) over computational_cost.
        score_basis: Which of the two the score is made of, in words; None where there is none.
        quality_reason: Why quality or its maintenance is None; None where both are known.
        nll: Negative log-likelihood per token, nats.
        perplexity: exp(nll).
        accuracy: Share of right first guesses; None without logits.
        recall: Dense attention inside the selection, mean over heads and queries in effect; None without a selection.
        by_sample: sample, nll, reference_nll, quality, quality_maintenance.
        patterns: sample, head, pattern_type, margin, computational_cost, attended_share, sparsity_ratio,
            normalized_entropy, recall; and of the map's whole sample quality, quality_maintenance, efficiency_score
            (all heads of a sample share its quality: outputs do not tell what a single head is worth).
        by_type: pattern_type, maps, and means of the above.
        pareto: level (head, pattern type), head, pattern_type, cost, quality, quality_kind, on_front, n (samples).
        notes: What of the outputs was taken for what, where it was not named.
    """

    computational_cost: float
    attended_share: float
    quality: float | None
    quality_maintenance: float | None
    efficiency_score: float | None
    score_basis: str | None
    quality_reason: str | None
    nll: float | None
    perplexity: float | None
    accuracy: float | None
    recall: float | None
    by_sample: pl.DataFrame
    patterns: pl.DataFrame
    by_type: pl.DataFrame
    pareto: pl.DataFrame
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class OptimalPatterns(Result):
    """Patterns that no other beats in cost and in quality at once.

    Attributes:
        heads: Heads on the front, cheapest first; of several layers pairs of layer and head.
        pattern_types: Pattern types on the front, cheapest first.
        quality_kind: What quality means here, in words; None where it is not known.
        reason: Why there is no front; None where there is one.
        optimal: The rows of ``all`` on the front.
        all: level, head, pattern_type, cost, quality, quality_kind, on_front, n, cheapest first.
    """

    heads: tuple[int, ...] | tuple[tuple[int, int], ...]
    pattern_types: tuple[str, ...]
    quality_kind: str | None
    reason: str | None
    optimal: pl.DataFrame
    all: pl.DataFrame


def efficiency(maps: Maps, tables: Features, quality: Quality, selected: torch.Tensor | None) -> EfficiencyMetrics:
    """The numbers of `EfficiencyMetrics` from feature tables and what is known of the model's predictions."""
    samples = _by_sample(quality, maps.batch)
    patterns = _patterns(maps, tables).join(samples.drop("nll", "reference_nll"), on="sample", how="left")
    basis = None if quality.nll is None else LIKELIHOOD if quality.reference is None else KEPT
    column = "quality" if quality.reference is None else "quality_maintenance"
    patterns = patterns.with_columns(efficiency_score=pl.col(column) / pl.col("computational_cost"))
    means = [pl.col(name).mean() for name in patterns.columns[4:]]
    cost = float(patterns["computational_cost"].mean())  # type: ignore[arg-type]
    nll, reference = _mean(quality.nll, quality.tokens), _mean(quality.reference, quality.tokens)
    kept = None if nll is None or reference is None else float(np.exp(reference - nll))
    reason = quality.reason
    if nll is not None and reference is None:
        reason = "quality kept is relative to the dense model; add dense_logits or dense_loss to model_outputs"
    value = None
    if nll is not None:
        loss = nll if reference is None else nll - reference
        value = float(score(np.array([loss]), np.array([cost]))[0])
    return EfficiencyMetrics(
        computational_cost=cost,
        attended_share=float(patterns["attended_share"].mean()),  # type: ignore[arg-type]
        quality=None if nll is None else float(np.exp(-nll)),
        quality_maintenance=kept,
        efficiency_score=value,
        score_basis=basis,
        quality_reason=reason,
        nll=nll,
        perplexity=None if nll is None else float(np.exp(nll)),
        accuracy=_mean(quality.accuracy, quality.tokens),
        recall=_recall(tables) if selected is not None else None,
        by_sample=samples,
        patterns=patterns,
        by_type=patterns.group_by("pattern_type").agg(pl.len().alias("maps"), *means).sort("pattern_type"),
        pareto=_front(tables, patterns, selected is not None, column, basis),
        notes=quality.notes,
    )


def optimal(metrics: EfficiencyMetrics) -> OptimalPatterns:
    """What of the metrics' rows is on the front."""
    rows = metrics.pareto.sort("level", "cost", "quality", descending=[False, False, True], nulls_last=True)
    front = rows.filter("on_front")
    kinds = rows["quality_kind"].drop_nulls().unique().to_list()
    heads = front.filter(pl.col("level") == "head")
    by_level: dict[str, list[Any]] = {
        "head": heads.select("layer", "head").rows() if "layer" in heads.columns else heads["head"].to_list(),
        "pattern type": front.filter(pl.col("level") == "pattern type")["pattern_type"].to_list(),
    }
    reason = None if front.height else metrics.quality_reason or "no query is in effect: the selection holds every key"
    return OptimalPatterns(
        heads=tuple(by_level["head"]),
        pattern_types=tuple(by_level["pattern type"]),
        quality_kind=kinds[0] if kinds else None,
        reason=reason,
        optimal=front,
        all=rows,
    )


def _by_sample(quality: Quality, batch: int) -> pl.DataFrame:
    known = {"nll": quality.nll, "reference_nll": quality.reference}
    schema = {"sample": pl.Int32, **dict.fromkeys(known, pl.Float64)}
    columns = {name: [None] * batch if values is None else values for name, values in known.items()}
    frame = pl.DataFrame({"sample": np.arange(batch), **columns}, schema=schema)
    return frame.with_columns(
        quality=(-pl.col("nll")).exp(), quality_maintenance=(pl.col("reference_nll") - pl.col("nll")).exp()
    )


def _patterns(maps: Maps, tables: Features) -> pl.DataFrame:
    """Cost and type of each map; means over its queries."""
    weight = pl.col("queries").cast(pl.Float64)
    means = [((pl.col(one) * weight).sum() / weight.sum()).alias(name) for name, one in _MEANS.items()]
    multi, effect = (pl.col(name).cast(pl.Float64) for name in ("queries_multi", "queries_in_effect"))
    means.append(((pl.col("normalized_entropy") * multi).sum() / multi.sum()).alias("normalized_entropy"))
    means.append(((pl.col("head_recall") * effect).sum() / effect.sum()).fill_nan(None).alias("recall"))
    rows = tables["attention"].group_by("sample", "head").agg(means).sort("sample", "head")
    pairs = (maps.weights > 0).sum((-1, -2)).double() / int(maps.eligible.sum())
    rows = rows.with_columns(attended_share=pl.Series(pairs.cpu().numpy().ravel(), dtype=pl.Float64))
    rows = rows.join(typed(pattern_rows(tables)), on=["sample", "head"], how="left")
    order = ("computational_cost", "attended_share", "sparsity_ratio", "normalized_entropy", "recall")
    return rows.select("sample", "head", "pattern_type", "margin", *order)


def _front(tables: Features, patterns: pl.DataFrame, selects: bool, column: str, basis: str | None) -> pl.DataFrame:
    """By head and by pattern type; with a selection it is the pipeline's own, whose quality is recall."""
    columns = ("level", "head", "pattern_type", "cost", "quality", "quality_kind", "on_front", "n")
    if selects:
        settings = EfficiencySettings(**BOOTSTRAP.model_dump())
        rows = patterns_pareto(tables, settings).filter(pl.col("level") != "layer")
        return rows.with_columns(quality_kind=pl.lit(RECALL)).select(columns)
    known = patterns.with_columns(pl.col("pattern_type").cast(pl.String))
    parts = []
    for level, by in (("head", "head"), ("pattern type", "pattern_type")):
        own = (
            known.filter(pl.col(by).is_not_null())
            .group_by(by)
            .agg(
                cost=pl.col("computational_cost").mean(),
                quality=pl.col(column).mean(),
                n=pl.col("sample").n_unique().cast(pl.Int32),
            )
        )
        own = own.sort(by)
        front = pareto(own["cost"].to_numpy(), own["quality"].cast(pl.Float64).fill_null(float("nan")).to_numpy())
        other = {"head": pl.lit(None, dtype=pl.Int16), "pattern_type": pl.lit(None, dtype=pl.String)}
        other.pop(by)
        parts.append(
            own.with_columns(
                level=pl.lit(level),
                quality_kind=pl.lit(basis, dtype=pl.String),
                on_front=pl.Series(front, dtype=pl.Boolean),
                **other,
            ).select(columns)
        )
    return pl.concat(parts)


def _mean(values: Array | None, weights: Array) -> float | None:
    return None if values is None else float(ratio((values * weights).sum(), weights.sum()))


def _recall(tables: Features) -> float | None:
    rows = tables["attention"].filter(pl.col("queries_in_effect") > 0)
    weight = rows["queries_in_effect"].cast(pl.Float64)
    total = float(weight.sum())
    return float((rows["head_recall"] * weight).sum()) / total if total else None
