"""How spread out the attention is."""

from __future__ import annotations

from analysis.metrics.metric import Family, attention_metric

FAMILY = Family(
    order=40,
    title="Entropy",
    about="How many keys a query's dense attention spreads over, by head. Entropy grows with n_t: compare by bucket.",
    metrics=(
        attention_metric(
            "attention_entropy",
            "nats",
            "neither",
            "Entropy of the dense attention.",
            "mean over heads and queries of -sum over s in E_t of p[h,t,s] ln p[h,t,s]",
        ),
        attention_metric(
            "normalized_entropy",
            "share",
            "neither",
            "Entropy as a share of its largest possible value; 1 is uniform attention.",
            "mean over heads and queries with n_t > 1 of the row's entropy / ln n_t",
            weight="queries_multi",
        ),
        attention_metric(
            "effective_keys",
            "keys",
            "neither",
            "Number of keys that uniform attention of the same entropy would have.",
            "mean over heads and queries of exp(the row's entropy)",
        ),
        attention_metric(
            "participation",
            "keys",
            "neither",
            "Effective number of keys by the second moment, which weighs large weights more than entropy does.",
            "mean over heads and queries of 1 / sum over s of p[h,t,s]^2",
        ),
    ),
)
