"""How much of the attention is next to nothing."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Family, attention_metric

FAMILY = Family(
    order=50,
    title="Sparsity",
    about="Future and padded keys are never in the denominator; tau is extract.sparsity_threshold, by default 0.01.",
    metrics=(
        attention_metric(
            "sparsity_ratio",
            "neither",
            "mean over heads and queries of |{s in E_t : p[h,t,s] < tau}| / n_t",
            misleads="With n_t above 1/tau keys even uniform attention falls below tau everywhere and has ratio 1, so "
            "that long contexts look sparse by themselves; read it by bucket, beside entropy.",
        ),
    ),
)
