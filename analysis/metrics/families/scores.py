"""What the index scores look like, row by row."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Family, indexer_metric

FAMILY = Family(
    order=30,
    title="Index scores",
    about="Index scores I[t,s] = sum_j w[t,j] ReLU(q[t,j] . k[s]) over E_t, as the model itself computed them.",
    metrics=(
        indexer_metric(
            "indexer_kl",
            "lower",
            "mean over queries with n_t > 1 of KL((1/H) sum_h p[h,t,.] || softmax over E_t of I[t,.])",
            meaning="Divergence of the index scores from the attention: the loss that a lightning indexer is warmed "
            "up on.",
            source="DeepSeek-V3.2-Exp technical report, dense warm-up stage",
            range="≥ 0",
            misleads="Only the order of scores decides the selection: scores of another scale have a large divergence "
            "and may select the same keys. The target is the mean of heads, weighing each alike.",
        ),
        indexer_metric(
            "tie_share",
            "lower",
            "mean over queries in effect of |{s in S_t : I[t,s] = k-th score}| / k_t where an unselected key has the "
            "same score, else 0",
            misleads="Where many scores are exactly zero, ties are among keys that hold no attention, and which are "
            "taken matters little; in low precision ties are more frequent than here.",
        ),
        indexer_metric(
            "score_margin",
            "neither",
            "mean over queries in effect of (k-th score - (k+1)-th score) / standard deviation of I[t,.] over E_t",
            meaning="How far the last selected score lies above the first unselected one.",
            range="≥ 0",
            misleads="Shrinks with n_t, since more keys leave smaller gaps between neighbouring scores; a few "
            "outlying scores raise the standard deviation and lower it.",
        ),
        indexer_metric(
            "zero_share",
            "neither",
            "mean over queries with n_t > 1 of |{s in E_t : I[t,s] = 0}| / n_t",
            meaning="Share of eligible keys with an index score of exactly zero, which ReLU makes common.",
            misleads="Scores are zero where all heads with weight are cut off by ReLU; negative head weights make "
            "scores below zero that still rank under them. Families that score without ReLU have none by "
            "design.",
        ),
    ),
)
