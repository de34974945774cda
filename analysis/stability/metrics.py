"""Whether the selection would be another."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Computed, Family, Metric

_SELECTION, _OUTPUT = "selection_stability", "output_stability"
_VLLM = "vllm-project/vllm-ascend#15053, sgl-project/sglang#31087"
_ROUNDED = {
    "bfloat16": "rounded to bfloat16",
    "float16": "rounded to float16",
    "fp8": "made of head scores rounded to float8_e4m3fn with one scale a query and head",
    "int8": "rounded to 255 equal steps a query",
}
_LIMITS = {
    "bfloat16": "Real kernels round q and k as well, which this does not.",
    "float16": "Scores beyond 65,504 would overflow in a real kernel; here they are within range or it is refused.",
    "fp8": "The product of FP8 q and k is not simulated, only its result: a lower bound of what an FP8 kernel does.",
    "int8": "The step is set by the query's largest score, so that one outlier makes all other scores coarse.",
}
_RERUN_LIMITS = {
    "chunk_half": "Rounding differs from machine to machine: another number of threads may show another value.",
    "chunk_odd": "Also changes how matrix kernels split their sums, so that it is never exactly the effect of ties.",
    "ties": "Layers after a changed one see other hidden states, so that its own ties are not the only cause.",
    "bfloat16": "Few samples run again: look at n and the interval before a rare large divergence is ruled out.",
    "float16": "Mostly below what the run's own rounding does; compare with output_kl_chunk_odd.",
    "fp8": "Simulated on scores alone and without fine-tuning, while models served in FP8 were trained or tuned "
    "for it.",
    "int8": "One scale a query: kernels with a scale per block of keys lose less.",
}
_RERUN = {
    "chunk_half": "is fed in chunks of half the size",
    "chunk_odd": "is fed in chunks of an odd size",
    "ties": "breaks every tie to the latest key",
    **{name: f"selects by index scores {text}" for name, text in _ROUNDED.items()},
}


def _changed(variant: str, text: str) -> Metric:
    return Metric(
        f"selection_changed_{variant}",
        "share",
        "lower",
        f"Share of the selection that is lost where index scores are {text}.",
        "mean over queries in effect of min over S of |S \\ S'| / k_t, S' the topk of the rounded scores and S any "
        "topk of the exact ones, so that other ways to break exact ties do not count",
        Computed("stability", _SELECTION),
        range="0 to 1",
        misleads=_LIMITS[variant],
    )


def _divergence(variant: str, text: str) -> Metric:
    return Metric(
        f"output_kl_{variant}",
        "nats",
        "lower",
        f"Divergence of the next-token distribution if the model {text}.",
        "mean over sampled queries of KL(reference run || variant), the selection replaced in every layer",
        Computed("stability", _OUTPUT),
        per_layer=False,
        source=_VLLM if variant in ("chunk_half", "chunk_odd", "ties") else "",
        range="≥ 0",
        misleads=_RERUN_LIMITS[variant],
    )


FAMILY = Family(
    order=190,
    title="Stability of the selection",
    about=(
        "How much of the selection, and of what the model predicts, hangs on how ties are broken and on how precisely "
        "index scores are computed. The close-up's queries count, each weighted by the queries that it stands for. "
        "Rounding q and k before their product, as FP8 kernels do, disturbs more than the simulated rounding of scores."
    ),
    metrics=(
        Metric(
            "selection_changed_ties",
            "share",
            "lower",
            "Share of the selection that ties leave open: what another tiling of the same computation can change.",
            "mean over queries in effect of |S \\ S'| / k_t, S and S' the topk of the same scores with ties broken to "
            "the earliest and to the latest key",
            Computed("stability", _SELECTION),
            source=_VLLM,
            range="0 to 1",
            misleads="What ties leave open is a bound: a given kernel may break them the same way every time.",
        ),
        *(_changed(variant, text) for variant, text in _ROUNDED.items()),
        *(_divergence(variant, text) for variant, text in _RERUN.items()),
    ),
)
