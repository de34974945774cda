"""Whether the selection would be another."""

from __future__ import annotations

from analysis.metrics.metric import Computed, Family, Metric

_SELECTION, _OUTPUT = "selection_stability", "output_stability"
_VLLM = "vllm-project/vllm-ascend#15053, sgl-project/sglang#31087"
_ROUNDED = {
    "bfloat16": "rounded to bfloat16",
    "float16": "rounded to float16",
    "fp8": "made of head scores rounded to float8_e4m3fn with one scale a query and head",
    "int8": "rounded to 255 equal steps a query",
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
    )


def _divergence(variant: str, text: str) -> Metric:
    return Metric(
        f"output_kl_{variant}",
        "nats",
        "lower",
        f"Divergence of the next-token distribution if the model {text}.",
        "mean over probed queries of KL(reference run || variant), the selection replaced in every layer",
        Computed("stability", _OUTPUT),
        per_layer=False,
        source=_VLLM if variant in ("chunk_half", "chunk_odd", "ties") else "",
    )


FAMILY = Family(
    order=190,
    title="Stability of the selection",
    about=(
        "How much of the selection, and of what the model predicts, hangs on how ties are broken and on how precisely "
        "index scores are computed. The probe's queries count, each weighted by the queries that it stands for. "
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
        ),
        *(_changed(variant, text) for variant, text in _ROUNDED.items()),
        *(_divergence(variant, text) for variant, text in _RERUN.items()),
    ),
)
