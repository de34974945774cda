"""How much attention few keys hold."""

from __future__ import annotations

from analysis.metrics.metric import Family, Metric, attention_metric


def _top(k: int) -> Metric:
    return attention_metric(
        f"top_{k}_mass",
        "share",
        "neither",
        f"Attention on the {k} most attended keys.",
        f"mean over heads and queries of the sum of the {k} largest p[h,t,.] (of all n_t where n_t < {k})",
    )


FAMILY = Family(
    order=60,
    title="Concentration",
    about="What the most attended keys of each head hold: the ceiling of what any selection per head could reach.",
    metrics=(
        attention_metric(
            "max_weight",
            "share",
            "neither",
            "Largest attention weight of a query.",
            "mean over heads and queries of max over s of p[h,t,s]",
        ),
        _top(5),
        _top(10),
        _top(20),
        _top(64),
        attention_metric(
            "top_k_mass",
            "share",
            "neither",
            "Attention on as many most attended keys as the indexer may select.",
            "mean over heads and queries of the sum of the k largest p[h,t,.]; k = index_topk, or extract.top_k for a "
            "model without an indexer",
        ),
        attention_metric(
            "keys_for_95",
            "share",
            "neither",
            "Share of the eligible keys that it takes to hold 95 % of the attention.",
            "mean over heads and queries of (smallest m whose m largest p[h,t,.] sum to >= 0.95) / n_t",
        ),
    ),
)
