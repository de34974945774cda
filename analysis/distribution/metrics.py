"""How low recall falls at single queries, which means over queries hide."""

from __future__ import annotations

from functools import partial

from indexscope.analysis.metrics.metric import Computed, Family, Metric

_worst = partial(
    Metric,
    unit="share",
    better="higher",
    rule=Computed("distribution", "recalls"),
    of_attention=True,
    at_equal_k=True,
    source="bo-ke/llm-internal-medicine#70 (logs of indexers in training)",
)
FAMILY = Family(
    order=22,
    title="Recall of single queries",
    about=(
        "A mean of 0.95 may be 0.95 everywhere, or 1 at most queries and nothing at some. Of each sample and layer the "
        "worst query in effect counts; over all layers it is the mean of the layers. Which query it is, and quantiles "
        "over all queries by position, are in the tables worst_queries and recall_quantiles of distribution."
    ),
    metrics=(
        _worst(
            name="lowest_recall",
            meaning="Smallest recall of any query of a sample, averaged over samples.",
            formula="mean over samples and layers of the minimum over queries in effect of selection_recall",
            misleads="The longer the sample, the lower its minimum, whatever the indexer: compare at equal lengths. "
            "One query decides, which may be of no importance to what follows.",
        ),
        _worst(
            name="recall_p01",
            meaning="Recall that all but 1 % of a sample's queries reach, averaged over samples.",
            formula="mean over samples and layers of the 1 % quantile over queries in effect of selection_recall, "
            "from a t-digest",
            misleads="With fewer than 100 queries in effect it is nearly the minimum. Where the selection fails at "
            "less than 1 % of the queries only lowest_recall shows it.",
            label="recall of the worst 1 % of queries",
        ),
    ),
)
