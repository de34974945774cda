"""What the selection holds of the dense attention."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Family, Metric, Ratio, attention_metric, indexer_metric

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
            "higher",
            "mean over queries in effect of sum over s in S_t of (1/H) sum_h p[h,t,s]",
            source="DeepSeek-V3.2-Exp technical report (the indexer is trained towards the head-summed attention)",
            misleads="Rises with k_t / n_t by itself: short contexts flatter it (read random_recall and oracle_recall "
            "beside it). The dense mass that is missed may matter little to the output, or much (see "
            "output_error).",
        ),
        indexer_metric(
            "oracle_recall",
            "neither",
            "mean over queries in effect of the sum of the k_t largest (1/H) sum_h p[h,t,s]",
            misleads="Best for the mean over heads: a head whose attention differs from the others may lose far more. "
            "It bounds selection_recall and not the quality of the output.",
        ),
        indexer_metric(
            "random_recall",
            "neither",
            "mean over queries in effect of k_t / n_t",
            range="above 0, below 1",
            misleads="The expectation of a random choice of tokens: a selector that only takes sinks and the nearest "
            "keys reaches far more without knowing any content.",
        ),
        Metric(
            "recall_of_oracle",
            "share",
            "higher",
            "Attention that the selection holds, relative to what the best selection would hold.",
            "sum over queries in effect of selected mass / sum over the same queries of oracle mass: a ratio of sums",
            Ratio("indexer", "selection_recall", "queries_in_effect", over="oracle_recall"),
            range="0 to 1",
            misleads="Close to 1 where attention is so concentrated that any sensible choice works, and where k_t is "
            "nearly n_t. It compares masses: the keys may be others (see oracle_overlap).",
        ),
        indexer_metric(
            "oracle_overlap",
            "higher",
            "mean over queries in effect of |S_t and O_t| / k_t, O_t the k_t keys with the largest head-mean attention",
            misleads="Counts keys that hold next to no attention as much as those that hold most of it: a low overlap "
            "with a high recall means that the tail is chosen otherwise, which costs little.",
        ),
        attention_metric(
            "head_recall",
            "higher",
            "mean over heads and queries in effect of sum over s in S_t of p[h,t,s]",
            meaning="Dense attention of each head that falls on selected keys; its mean over heads is "
            "selection_recall.",
            misleads="The mean hides heads that the joint selection serves badly; look at the map of heads. Its mean "
            "over heads is selection_recall and no news.",
        ),
        attention_metric(
            "output_error",
            "lower",
            "mean over heads and queries in effect of ||o_sparse - o_dense|| / ||o_dense||",
            meaning="Relative change of a head's attention output when only selected keys are attended.",
            range="≥ 0",
            misleads="Relative to the norm of the dense output: a head with an output near zero has a large error "
            "that the model may not notice, and errors of heads can cancel after the output projection.",
        ),
        Metric(
            "in_effect",
            "share",
            "neither",
            "Share of queries with more eligible keys than the indexer may select.",
            "queries with n_t > k_t / all queries",
            Ratio("indexer", "queries_in_effect", "", over="queries"),
            range="0 to 1",
            misleads="A property of lengths and k more than of the indexer. Where it is small, sparse and dense runs "
            "are the same computation for most queries, and quality differences say little about sparsity.",
        ),
    ),
)
