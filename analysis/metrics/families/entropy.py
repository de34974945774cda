"""How spread out the attention is."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Family, attention_metric

FAMILY = Family(
    order=40,
    title="Entropy",
    about="How many keys a query's dense attention spreads over, by head. Entropy grows with n_t: compare by bucket.",
    metrics=(
        attention_metric(
            "attention_entropy",
            "neither",
            "mean over heads and queries of -sum over s in E_t of p[h,t,s] ln p[h,t,s]",
            range="0 to ln n_t",
            misleads="Grows with n_t, so that a longer dataset has more of it with the same attention; heads of very "
            "different kinds average to a value that none of them has.",
        ),
        attention_metric(
            "normalized_entropy",
            "neither",
            "mean over heads and queries with n_t > 1 of the row's entropy / ln n_t",
            meaning="Entropy as a share of its largest possible value; 1 is uniform attention.",
            misleads="Dividing by ln n_t does not remove the length: a head that attends a fixed number of keys has "
            "an ever lower value in longer contexts.",
        ),
        attention_metric(
            "effective_keys",
            "neither",
            "mean over heads and queries of exp(the row's entropy)",
            range="1 to n_t",
            misleads="A mean of exponentials: a few queries with nearly uniform attention over thousands of keys can "
            "outweigh all others.",
        ),
        attention_metric(
            "participation",
            "neither",
            "mean over heads and queries of 1 / sum over s of p[h,t,s]^2",
            meaning="Effective number of keys by the second moment, which weighs large weights more than entropy does.",
            range="1 to n_t",
            misleads="Says how many large weights there are and nothing about the tail, which may hold a third of the "
            "mass; always at most effective_keys.",
        ),
    ),
)
