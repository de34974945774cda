"""What was measured of indexer, selection and attention beside their latency, and where sparse attention pays."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Computed, Family, Metric

_PROFILE = Computed("efficiency", "profile")


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


FAMILY = Family(
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
            "median over repeats of the milliseconds of topk in all layers, timed in forwards of its own; the bounds "
            "are the 5th and 95th percentile of the repeats and n counts repeats",
            _PROFILE,
            per_layer=False,
            range="> 0",
            misleads="Timed in forwards of its own, fewer than those of the other latencies, and with the "
            "reference topk, not a fused one.",
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
            "Shortest context for which indexer and sparse attention need fewer operations than dense attention.",
            "smallest L with indexer FLOPs + attention FLOPs < dense attention FLOPs for a prefill of L tokens, solved "
            "exactly; null where there is none",
            Computed("efficiency", "facts"),
            per_layer=False,
            range="≥ 1",
            misleads="Operations only: memory traffic and kernel launches put the real break-even further out.",
        ),
    ),
)
