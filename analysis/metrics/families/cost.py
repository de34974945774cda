"""What indexer and attention cost, and whether the quality is worth it."""

from __future__ import annotations

import numpy as np

from indexscope.analysis.metrics.metric import Array, Computed, Derived, Family, Metric
from indexscope.analysis.statistics import ratio

_FACTS = Computed("efficiency", "facts")
_PROFILE = Computed("efficiency", "profile")


def score(sparsity_cost: Array, relative_cost: Array) -> Array:
    """exp(-sparsity_cost) / relative_cost: the perplexity ratio dense/sparse per relative cost."""
    return ratio(np.exp(-np.asarray(sparsity_cost)), relative_cost)


def _count(name: str, meaning: str, formula: str, misleads: str) -> Metric:
    return Metric(
        name, "parameters", "lower", meaning, formula, _FACTS, per_layer=False, range="≥ 0", misleads=misleads
    )


def _flops(name: str, meaning: str, formula: str, misleads: str) -> Metric:
    return Metric(
        name, "FLOPs/token", "lower", meaning, formula, _FACTS, per_layer=False, range="≥ 0", misleads=misleads
    )


def _latency(name: str, meaning: str, misleads: str) -> Metric:
    formula = (
        "median over repeats of the milliseconds of all layers in one prefill at the longest profiled length; the "
        "bounds are the 5th and 95th percentile of the repeats and n counts repeats"
    )
    return Metric(name, "ms", "lower", meaning, formula, _PROFILE, per_layer=False, range="> 0", misleads=misleads)


FAMILY = Family(
    order=90,
    title="Cost",
    about=(
        "FLOPs are by formula (a multiply-add is 2), for prefills of the study's own samples: a sample of L tokens has "
        "L (L + 1) / 2 query-key pairs, of which sparse layers attend sum over t of min(n_t, k). The formulas "
        "hold where the indexer scores single tokens; for pools, blocks and compressed entries they are null. Counted "
        "FLOPs and all timings are in the profile table. Counts and FLOPs are not sampled and carry no interval."
    ),
    metrics=(
        _count(
            "model_parameters",
            "Parameters of the whole model.",
            "number of parameters, indexer included",
            "Counts all experts of a mixture, of which a token runs few: it says little about the operations of a "
            "token.",
        ),
        _count(
            "indexer_parameters",
            "Parameters of all lightning indexers.",
            "number of parameters of all indexers",
            "Most of the work of an indexer is in the scores, which have no parameters and grow with the square of "
            "the length.",
        ),
        _flops(
            "indexer_flops",
            "Indexer operations per token at the study's lengths.",
            "(2 x indexer_parameters x tokens + indexer layers x (2 H_I d_I + 2 H_I) x pairs) / tokens",
            "At the lengths of the study: pairs grow with the length, projections do not, so that short samples hide "
            "what the scores cost in long contexts. An indexer in 8-bit precision costs less time a FLOP.",
        ),
        _flops(
            "attention_flops",
            "Attention operations per token as the model runs it: scores and values of attended pairs, no projections.",
            "2 H (d_qk + d_v) x (sparse layers x attended pairs + dense layers x pairs) / tokens",
            "Counts attended pairs only; kernels that compute blocks and mask them do more, and gathering keys costs "
            "time that is no FLOP.",
        ),
        _flops(
            "dense_attention_flops",
            "The same if every layer attended every eligible key.",
            "2 H (d_qk + d_v) x layers x pairs / tokens",
            "Exact causal counting; a kernel that computes masked pairs too does up to twice as much. Multi-head "
            "latent attention that absorbs projections has other widths when it decodes.",
        ),
        Metric(
            "relative_cost",
            "ratio",
            "lower",
            "Indexer and sparse attention together, relative to dense attention, at the study's lengths.",
            "(indexer FLOPs + attention FLOPs) / dense attention FLOPs, a ratio of sums over samples; above 1 the "
            "selection costs more than it saves, as it does for short contexts",
            _FACTS,
            per_layer=False,
            range="≥ 0",
            misleads="Holds for the lengths of the study: the same model is far cheaper, relative to dense attention, "
            "at 100 thousand tokens. FLOPs and not time.",
        ),
        _latency(
            "indexer_latency_ms",
            "Measured time of all indexers, their topk included.",
            "The reference code on the machine of the study, not the fused kernels of a deployment; other load on the "
            "machine shows in it.",
        ),
        _latency(
            "attention_latency_ms",
            "Measured time of all attention modules without their indexers.",
            "Reference code computes all scores and masks those not selected, so that sparsity saves no time here; "
            "projections are included.",
        ),
        _latency(
            "model_latency_ms",
            "Measured time of the whole forward pass.",
            "One prefill without a batch, on the machine of the study: says nothing of decoding or of throughput "
            "under load.",
        ),
        Metric(
            "efficiency_score",
            "score",
            "higher",
            "Quality kept per relative cost; above 1 quality is kept at less than proportional cost.",
            "exp(dense_nll - nll) / relative_cost; unknown without dense_nll or without an indexer",
            Derived("facts", ("sparsity_cost", "relative_cost"), score),
            per_layer=False,
            range="≥ 0",
            misleads="Rewards cheapness without bound: a model that loses a nat and costs a tenth scores 3.7. Read "
            "the two factors, and only compare at equal lengths.",
        ),
    ),
)
