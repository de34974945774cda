"""What the selection holds of the dense attention."""

from __future__ import annotations

from analysis.metrics.metric import Family, Metric, Ratio, attention_metric, indexer_metric

FAMILY = Family(
    order=20,
    title="Selection",
    about=(
        "How much of the dense attention the indexer's selection S_t holds. Only queries with n_t > k_t count: before "
        "that every key is selected and the number says nothing. `in_effect` is the share of queries that count."
    ),
    metrics=(
        indexer_metric(
            "selection_recall",
            "share",
            "higher",
            "Dense attention of the head mean that falls on selected keys.",
            "mean over queries in effect of sum over s in S_t of (1/H) sum_h p[h,t,s]",
            source="DeepSeek-V3.2-Exp technical report (the indexer is trained towards the head-summed attention)",
        ),
        indexer_metric(
            "oracle_recall",
            "share",
            "neither",
            "What the best possible selection of the same size would hold.",
            "mean over queries in effect of the sum of the k_t largest (1/H) sum_h p[h,t,s]",
        ),
        indexer_metric(
            "random_recall",
            "share",
            "neither",
            "What a random selection of the same size would hold on average.",
            "mean over queries in effect of k_t / n_t",
        ),
        Metric(
            "recall_of_oracle",
            "share",
            "higher",
            "Attention that the selection holds, relative to what the best selection would hold.",
            "sum over queries in effect of selected mass / sum over the same queries of oracle mass: a ratio of sums",
            Ratio("indexer", "selection_recall", "queries_in_effect", over="oracle_recall"),
        ),
        indexer_metric(
            "oracle_overlap",
            "share",
            "higher",
            "Share of the oracle's keys that the indexer also selects.",
            "mean over queries in effect of |S_t and O_t| / k_t, O_t the k_t keys with the largest head-mean attention",
        ),
        attention_metric(
            "head_recall",
            "share",
            "higher",
            "Dense attention of each head that falls on selected keys; its mean over heads is selection_recall.",
            "mean over heads and queries in effect of sum over s in S_t of p[h,t,s]",
            weight="queries_in_effect",
        ),
        attention_metric(
            "output_error",
            "ratio",
            "lower",
            "Relative change of a head's attention output when only selected keys are attended.",
            "mean over heads and queries in effect of ||o_sparse - o_dense|| / ||o_dense||",
            weight="queries_in_effect",
        ),
        Metric(
            "in_effect",
            "share",
            "neither",
            "Share of queries with more eligible keys than the indexer may select.",
            "queries with n_t > k_t / all queries",
            Ratio("indexer", "queries_in_effect", "", over="queries"),
        ),
    ),
)
