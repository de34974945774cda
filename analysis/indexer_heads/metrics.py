"""What single indexer heads do."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Computed, Family, Metric

_HEADS = Computed("indexer_heads", "indexer_heads")
_PAIRS = Computed("indexer_heads", "indexer_head_pairs")

FAMILY = Family(
    order=170,
    title="Indexer heads",
    about=(
        "Of sampled queries in effect (n_t > k_t), each weighted by the queries that it stands for. c_j[t,s] = w[t,j] "
        "ReLU(q[t,j] . k[s]), whose sum over the J heads of a layer is I[t,s]. ReLU makes exact zeros, and so whatever "
        "is asked of a selection by some of the heads is its expectation over random choices among the keys that tie "
        "at the k-th score: a head that scores nothing selects like a random selector."
    ),
    metrics=(
        Metric(
            "head_agreement",
            "share",
            "neither",
            "How much of the selection a single indexer head would make by itself.",
            "mean over queries and heads of |top k_t of c_j and S_t| / k_t; a random selector has k_t / n_t",
            _HEADS,
            range="0 to 1",
            misleads="The head that contributes most agrees most; a random selector of k of n keys already agrees "
            "by k / n.",
        ),
        Metric(
            "head_effective",
            "heads",
            "neither",
            "Effective number of indexer heads: how many equal ones would spread the selected keys' score as evenly.",
            "exp(-sum_j c_j ln c_j), c_j the mean over queries of sum over S_t of |c_j[t,s]| over that of all heads; "
            "averaged over layers; its interval is that of its linearisation (first-order influence of each sample)",
            _HEADS,
            range="1 to the number of indexer heads",
            misleads="Counts the size of contributions, negative ones included: a head of large scores that are "
            "the same for all keys changes no selection.",
        ),
        Metric(
            "head_redundancy",
            "cosine",
            "neither",
            "How alike the scores of two heads of a layer are; above 0 for unrelated heads too: no score is negative.",
            "mean over queries and pairs of heads of the cosine of ReLU(q[t,j] . k[s]) over E_t; undefined where "
            "either head scores nothing",
            _PAIRS,
            range="0 to 1",
            misleads="Scores after ReLU are never negative, so that unrelated heads have a cosine well above 0; "
            "head_correlation has not this fault.",
        ),
        Metric(
            "head_correlation",
            "correlation",
            "neither",
            "How alike the scores of two heads of a layer are; 0 where they have nothing to do with each other.",
            "mean over queries and pairs of heads of the Pearson correlation of ReLU(q[t,j] . k[s]) over E_t; "
            "undefined where either head scores all keys alike",
            _PAIRS,
            range="-1 to 1",
            misleads="Undefined for silent heads, which are left out; equal scores for most keys can hide that two"
            " heads part at the top.",
        ),
        Metric(
            "leave_one_out_loss",
            "share",
            "neither",
            "Attention mass that the selection loses when one indexer head is left out; below 0 it would gain.",
            "mean over queries and heads j of (recall of the top k_t of I) - (recall of the top k_t of I - c_j), "
            "recall being the dense attention of the head mean on a selection",
            _HEADS,
            range="-1 to 1",
            misleads="One head at a time: of two heads that do the same neither is missed, and yet not both can go.",
            of_attention=True,
        ),
        Metric(
            "negative_head_weights",
            "share",
            "neither",
            "Share of the indexer heads' weights that are below zero: heads that vote down the keys that they score.",
            "mean over queries and heads j of 1 if w[t,j] < 0, else 0",
            _HEADS,
            range="0 to 1",
            source="bo-ke/llm-internal-medicine#70 (logs of indexers in training)",
            misleads="Counts signs and not sizes: a weight just below zero, or of a head whose ReLU is silent, votes "
            "nothing down. Always 0 for families whose heads have no weights.",
        ),
    ),
)
