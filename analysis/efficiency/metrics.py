"""What indexer and attention cost, by formula and measured, and whether the quality is worth it."""

from __future__ import annotations

from functools import partial

import numpy as np

from indexscope.analysis.conventions import CONVENTIONS, SERVED
from indexscope.analysis.metrics.metric import Array, Computed, Derived, Family, Metric
from indexscope.analysis.statistics.resampling import ratio

_FACTS = Computed("efficiency", "facts")
_PROFILE = Computed("efficiency", "profile")


def score(sparsity_cost: Array, relative_cost: Array) -> Array:
    """exp(-sparsity_cost) / relative_cost: the perplexity ratio dense/sparse per relative cost."""
    return ratio(np.exp(-np.asarray(sparsity_cost)), relative_cost)


def _of_facts(
    unit: str,
    name: str,
    meaning: str,
    formula: str,
    misleads: str,
    headline: bool = False,
    label: str = "",
    at_lengths: bool = False,
) -> Metric:
    return Metric(
        name,
        unit,
        "lower",
        meaning,
        formula,
        _FACTS,
        per_layer=False,
        range="≥ 0",
        misleads=misleads,
        label=label,
        headline=headline,
        at_lengths=at_lengths,
    )


_count = partial(_of_facts, "parameters")


def _flops(name: str, meaning: str, formula: str, misleads: str, headline: bool = False) -> Metric:
    label = name.replace("_flops", " FLOPs").replace("_", " ")
    return _of_facts("FLOPs/token", name, meaning, formula, misleads, headline, label, at_lengths=True)


def _latency(name: str, meaning: str, misleads: str, headline: bool = False) -> Metric:
    formula = (
        "median over repeats of the milliseconds of all layers in one prefill at the longest profiled length; the "
        "bounds are the 5th and 95th percentile of the repeats and n counts repeats"
    )
    return Metric(
        name,
        "ms",
        "lower",
        meaning,
        formula,
        _PROFILE,
        per_layer=False,
        range="> 0",
        misleads=misleads,
        label=f"measured {name.removesuffix('_ms').replace('_', ' ')}",
        headline=headline,
    )


def _peak(name: str, what: str, misleads: str) -> Metric:
    formula = (
        "largest memory of one call, over all layers, above what was alive when it began, at the longest profiled "
        "length; on a GPU what torch's allocator gave out, on the CPU the bytes of all tensors alive"
    )
    return Metric(
        name,
        "bytes",
        "lower",
        f"Peak memory of {what}.",
        formula,
        _PROFILE,
        per_layer=False,
        range="≥ 0",
        misleads=misleads,
    )


COST = Family(
    order=90,
    title="Cost",
    about=(
        "FLOPs are by formula (a multiply-add is 2), for prefills of the study's own samples: a sample of L tokens has "
        "L (L + 1) / 2 query-key pairs, of which sparse layers attend sum over t of min(n_t, k). The model counts as "
        f"it is served: {SERVED.meaning}, since FP8 tensor cores are twice as fast as bf16; docs/families.md says "
        "which indexers are served so. Multi-head latent attention has two modes: as MHA each head has keys and values "
        "of its own, as MQA all heads share a key of kv_lora_rank + qk_rope_head_dim channels and a value of "
        "kv_lora_rank; other attention has one. Cost and break-even by other conventions, in which every operation "
        "counts whole, are in the table conventions: " + ", ".join(one.name for one in CONVENTIONS[1:]) + ". The "
        "formulas hold where the indexer scores single tokens; for pools, blocks and compressed entries they are null, "
        "as for models outside transformers that select. Counted "
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
            headline=True,
        ),
        _flops(
            "indexer_flops",
            "Indexer operations per token at the study's lengths.",
            "(2 x indexer_parameters x tokens + indexer layers x (2 H_I d_I + 2 H_I) x pairs) / tokens",
            "At the lengths of the study: pairs grow with the length, projections do not, so that short samples hide "
            "what the scores cost in long contexts. Every operation counts whole, in whatever precision; one in FP8 "
            "takes half the time, which relative_cost and break_even_length know.",
            headline=True,
        ),
        _flops(
            "attention_flops",
            "Attention operations per token as served: scores and values of attended pairs, no projections.",
            "(2 H (d_k + d_v) x sparse layers x attended pairs + 2 H (d_qk + d_v) x dense layers x pairs) / tokens; on "
            "latents (MQA) d_k = kv_lora_rank + qk_rope_head_dim and d_v = kv_lora_rank, without any d_k = d_qk",
            "A pair takes more operations on latents than on keys and values of each head's own, and less memory "
            "traffic, which is no FLOP. Counts attended pairs only; kernels that compute blocks and mask them do more.",
        ),
        _flops(
            "dense_attention_flops",
            "The same if every layer attended every eligible key, with keys and values of each head's own.",
            "2 H (d_qk + d_v) x layers x pairs / tokens",
            "Exact causal counting; a kernel that computes masked pairs too does up to twice as much. A prefill's: "
            "dense latent attention decodes as MQA, for which the table conventions has MQA against MQA.",
        ),
        Metric(
            "relative_cost",
            "ratio",
            "lower",
            "Indexer and sparse attention together as served, relative to dense attention, at the study's lengths.",
            "(c x indexer FLOPs + attention FLOPs) / dense attention FLOPs, a ratio of sums over samples, c = 1/2 for "
            "an indexer that is served in FP8, 1/4 in FP4 and 1 in bf16; the whole is 1 without an indexer; above 1 "
            "the selection costs more than it saves, as it does for short contexts",
            _FACTS,
            per_layer=False,
            range="≥ 0",
            misleads="Holds for the lengths of the study: the same model is far cheaper, relative to dense attention, "
            "at 100 thousand tokens. FLOPs and not time. Depends on the convention: DeepSeek-V3.2 at 16,384 tokens has "
            "0.48 as MHA against MHA, 1.04 as MQA against MHA, and 0.92 as served.",
            at_lengths=True,
        ),
        _latency(
            "indexer_latency_ms",
            "Measured time of all indexers, their topk included.",
            "The reference code on the machine of the study, not the fused kernels of a deployment; other load on the "
            "machine shows in it.",
            headline=True,
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
            headline=True,
            at_lengths=True,
        ),
    ),
)
MEASURED_COST = Family(
    order=210,
    title="Measured cost",
    about=(
        "Time and memory of one prefill with the model's own code, at the longest profiled length; every length is in "
        "the latency table. transformers' reference code computes every pair and masks, so that its times are no "
        "guide to a fused kernel's: the share of time says where this code spends it, the FLOPs what is needed."
    ),
    metrics=(
        Metric(
            "selection_latency_ms",
            "ms",
            "lower",
            "Measured time of topk inside all indexers, a part of indexer_latency_ms.",
            "median over repeats of the milliseconds of topk in all layers, each call repeated in its place in a "
            "forward of its own; the bounds are the 5th and 95th percentile of the repeats and n counts repeats",
            _PROFILE,
            per_layer=False,
            range="> 0",
            misleads="Timed in a forward of its own, at most three times, with the reference topk, not a fused one.",
        ),
        Metric(
            "indexer_time_share",
            "share",
            "lower",
            "Share of the model's time that its indexers take.",
            "median milliseconds of all indexers / median milliseconds of the model, at the longest profiled length",
            _PROFILE,
            per_layer=False,
            range="0 to 1",
            misleads="A share of reference code's time, which masks what a sparse kernel skips: attention looks "
            "dearer and the indexer cheaper than deployed.",
        ),
        _peak(
            "indexer_peak_bytes",
            "an indexer, its topk included",
            "The reference code holds all heads' scores at once, which a fused kernel never does.",
        ),
        _peak(
            "selection_peak_bytes",
            "topk inside an indexer, its results included",
            "The scores that it reads belong to the indexer and are not in it.",
        ),
        _peak(
            "attention_peak_bytes",
            "an attention module while its indexer does not run",
            "The mask over all pairs is in it, which a sparse kernel does without.",
        ),
        _peak(
            "model_peak_bytes",
            "the forward pass without weights",
            "Whole prefill at once; extraction in chunks needs far less.",
        ),
        Metric(
            "break_even_length",
            "tokens",
            "lower",
            "Shortest context for which indexer and sparse attention, as served, cost less than dense attention.",
            "smallest L with c x indexer FLOPs + attention FLOPs < dense attention FLOPs for a prefill of L tokens, c "
            "as in relative_cost, solved exactly; null where there is none",
            Computed("efficiency", "facts"),
            per_layer=False,
            range="≥ 1",
            misleads="Operations only: memory traffic and kernel launches put the real break-even elsewhere, and for "
            "short prefills an engine may run the sparse model as masked MHA. By other conventions it may be several "
            "times less (table conventions).",
        ),
    ),
)
