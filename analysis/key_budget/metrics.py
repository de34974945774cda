"""How many keys keep how much of the attention."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Computed, Family, Metric

_RULE = Computed("key_budget", "keys_needed")

FAMILY = Family(
    order=150,
    title="Key budget",
    about=(
        "How many keys a query needs, from the close-up's queries, each weighted by the queries that it stands for; "
        "all queries count, short ones with all their keys. Keys of equal index score have no order: they count as the "
        "expectation over all ways to break the tie. A saving is one of keys attended to, not of index scores, which "
        "are computed for all keys whatever k is; a real selector would have to know each query's k beforehand; and "
        "holding 95 % of every query is not the cheapest way to hold as much on average, so that within a layer the "
        "saving may well be negative."
    ),
    metrics=(
        Metric(
            "oracle_keys_95",
            "keys",
            "neither",
            "Keys that hold 95 % of a query's attention if the best are taken: the least that any selection needs.",
            "mean over queries of the smallest m for which the m largest (1/H) sum_h p[h,t,s] hold 0.95",
            _RULE,
            range="1 to n_t",
            misleads="No selector can know these keys beforehand. Grows with the context, so that it compares "
            "studies of equal lengths only.",
            of_attention=True,
        ),
        Metric(
            "indexer_keys_95",
            "keys",
            "lower",
            "Keys that hold 95 % of a query's attention if they are taken in the order of the index scores.",
            "mean over queries of the smallest m for which the m keys of the largest I[t,s] hold 0.95 of "
            "(1/H) sum_h p[h,t,s]",
            _RULE,
            range="1 to n_t",
            misleads="A single attended key far down the order makes a query need nearly all keys, so that the "
            "mean is driven by few queries.",
            of_attention=True,
        ),
        Metric(
            "adaptive_saving_95",
            "share",
            "neither",
            "Share of a layer's attended keys that a k of each query's own would save; below 0 where one k is better.",
            "in a layer 1 - indexer_keys_95 / mean of min(n_t, k), k the smallest that all its queries could share and "
            "that holds as much on average as those keys do; linear between the budgets 1, 2, 3, 4, 6, 8, 12, ... Over "
            "all layers their mean, weighted by the keys that these fixed budgets attend to",
            _RULE,
            range="≤ 1",
            misleads="To hold 95 % of every query is not the cheapest way to hold as much on average, so that another "
            "rule of choosing each query's k may save more. What a k for each layer saves is not in it (table budgets, "
            "fixed by layer).",
            of_attention=True,
        ),
    ),
)
