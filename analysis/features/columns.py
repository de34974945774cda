"""Names of the features of one query, in the order of the columns they become.

Kernels write features by their place in these tuples.
"""

from __future__ import annotations

OF_ALL_QUERIES = (
    *("attention_entropy", "effective_keys", "participation", "normalized_entropy", "sparsity_ratio", "max_weight"),
    *("top_5_mass", "top_10_mass", "top_20_mass", "top_64_mass", "top_k_mass", "keys_for_95"),
    *("local_mass", "sink_mass", "self_mass", "previous_mass", "mean_distance", "induction_mass"),
)
OF_QUERIES_IN_EFFECT = ("head_recall", "output_error")
OF_SELECTION = ("selection_recall", "oracle_recall", "random_recall", "oracle_overlap")
OF_SCORES = ("tie_share", "score_margin", "indexer_kl", "zero_share")
PER_HEAD = (*OF_ALL_QUERIES, *OF_QUERIES_IN_EFFECT)
PER_QUERY = (*OF_SELECTION, *OF_SCORES)
COUNTS = ("queries", "queries_multi", "queries_in_effect")
