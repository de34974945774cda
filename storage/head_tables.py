"""The tables of single indexer heads: what the probe saw of them, and what the analysis heads makes of it."""

from __future__ import annotations

from storage.columns import SAMPLES, Column, Table, interval, of, table
from storage.result_tables import RESULTS

_HEAD: tuple[Column, ...] = of(indexer_head="Index of the indexer head within its layer, from 0.")
_PAIR = of(head_a="Indexer head.", head_b="Another indexer head of the layer, of a higher index.")
_STANDS_FOR = "Queries that the sampled ones stand for"
_WEIGHT = of("queries", queries="Sampled queries in effect.", weight=f"{_STANDS_FOR}.")
_PLACES = {
    "local": "the nearest 32 keys, the query's own included",
    "sink": "the first 4 keys of the sequence",
    "self": "the query's own token",
    "previous": "the token before the query",
    "induction": "tokens that followed an earlier copy of the query's token",
}
_ROLES = {
    "": "what the head adds to scores",
    "uniform_": "uniform scoring on the queries for which the head adds to scores",
    "against_": "what the head takes from scores",
    "against_uniform_": "uniform scoring on the queries for which the head takes from scores",
}
_MEANS = {
    "contribution": "Share of the selected keys' sum of |w ReLU| over all heads that is the head's.",
    "active_share": "Eligible keys with a ReLU above zero.",
    "positive_share": "Queries for which the head's weight is above zero.",
    "own_overlap": "Selected keys that are also in the head's own top k, expected over ties.",
    "random_overlap": "The same for a random selector, k_t / n_t.",
    "own_recall": "Dense attention on the head's own top k, expected over ties.",
    "random_recall": "The same for a random selector.",
    "kept": "Selected keys that are in the top k of all heads' sum; below 1 where keys tie.",
    "kept_without": "Selected keys that are in the top k of the other heads' sum, expected over ties.",
    "recall": "Dense attention on the selected keys.",
    "recall_with": "Dense attention on the top k of all heads' sum, expected over ties.",
    "recall_without": "Dense attention on the top k of the other heads' sum, expected over ties.",
}


def _focus(weights: tuple[str, str] = ("", "")) -> tuple[Column, ...]:
    """Where the score lies, by role; the weights are those of what is added and of what is taken away."""
    found: tuple[Column, ...] = ()
    for role, what in _ROLES.items():
        weight = weights[role.startswith("against")]
        shares = {f"{role}{name}": f"Share on {place} of {what}." for name, place in _PLACES.items()}
        found += of("tokens", weight, **{f"{role}mean_distance": f"Mean distance of {what}."})
        found += of("share", weight, **shares)
    return found


def _bounded(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns, each followed by its confidence interval."""
    ends = ((column, interval(column.unit, f"{column.name}_ci_low", f"{column.name}_ci_high")) for column in columns)
    return tuple(one for column, bounds in ends for one in (column, *bounds))


def _alike(*weights: str) -> tuple[Column, ...]:
    cosine, correlation, overlap = weights
    return (
        *of("cosine", cosine, cosine="Cosine of the two heads' ReLU over the eligible keys."),
        *of("correlation", correlation, correlation="Pearson correlation of the same."),
        *of("share", overlap, overlap="Common keys of the two own top k over all their keys, expected over ties."),
    )


_OWN = of("share", **{name: text for name, text in _MEANS.items() if not name.startswith("random")})
_LOSS = of("share", recall_loss="Recall with all heads less recall without the head.")
_SIGN = of(
    "share",
    adds_share="Queries for which the head adds to the score of some key.",
    against_share="Queries for which the head takes from the score of some key.",
)

HEADS: dict[tuple[str, str], Table] = {
    ("probes", "indexer_heads"): table(
        "sample, layer, indexer head",
        "sample layer indexer_head",
        _HEAD,
        _WEIGHT,
        of("share", "weight", **{name: text for name, text in _MEANS.items() if name != "contribution"}),
        of("queries", scored_weight=f"{_STANDS_FOR} for which some head scores a selected key."),
        of("share", "scored_weight", contribution=_MEANS["contribution"]),
        of("queries", focus_weight=f"{_STANDS_FOR} for which the head adds to the score of some key."),
        of("queries", against_weight=f"{_STANDS_FOR} for which the head takes from the score of some key."),
        _focus(("focus_weight", "against_weight")),
    ),
    ("probes", "indexer_head_pairs"): table(
        "sample, layer, pair of indexer heads",
        "sample layer head_a head_b",
        _PAIR,
        of(
            "queries",
            weight=f"{_STANDS_FOR}.",
            cosine_weight=f"{_STANDS_FOR} for which both heads score some key.",
            correlation_weight=f"{_STANDS_FOR} for which both heads tell some keys apart.",
        ),
        _alike("cosine_weight", "correlation_weight", "weight"),
    ),
    ("probes", "indexer_head_scores"): table(
        "sample, layer, indexer head, group",
        "sample layer indexer_head group",
        _HEAD,
        of(group="Whose scores w ReLU of the head: selected or unselected keys of queries in effect."),
        of("keys", count="Scores, each as often as its query stands for.", zeros="Scores that are exactly zero."),
        of("score", "count", mean="Mean score."),
        of("score", minimum="Smallest score.", maximum="Largest score."),
        of("score^2", m2="Sum of squared deviations from the mean."),
        of(sketch="Serialised datasketches.tdigest_float of the scores."),
    ),
    ("probes", "indexer_head_positions"): table(
        "sample, layer, indexer head, axis, bin",
        "sample layer indexer_head axis bin",
        _HEAD,
        _WEIGHT,
        of(
            "keys",
            selections="Keys of the head's own top k in the bin, expected over ties, over all queries.",
            expected_selections="The same for a random selector.",
        ),
    ),
    ("probes", "indexer_pruning"): table(
        "sample, layer, number of heads removed",
        "sample layer removed",
        of("heads", removed="Indexer heads that are gone."),
        of(indexer_head="The head that goes at this step; null at first."),
        _WEIGHT,
        of(
            "share",
            "weight",
            recall="Dense attention on the top k of the remaining heads' sum, expected over ties.",
            overlap="Selected keys that are in it.",
        ),
    ),
    ("analyses/heads", "metrics"): RESULTS["analyses/positional", "metrics"],
    ("analyses/heads", "per_sample"): RESULTS["analyses/positional", "per_sample"],
    ("analyses/heads", "focus"): table(
        "layer, indexer head",
        "layer indexer_head",
        _HEAD,
        of(words="What the head focuses on."),
        _bounded((*_OWN, *_LOSS, *_SIGN, *(column for column in _focus() if "uniform" not in column.name))),
        of("share", random_overlap=_MEANS["random_overlap"], random_recall=_MEANS["random_recall"]),
        (column for column in _focus() if "uniform" in column.name),
        SAMPLES,
    ),
    ("analyses/heads", "pairs"): table(
        "layer, pair of indexer heads",
        "layer head_a head_b",
        _PAIR,
        _alike("", "", ""),
        SAMPLES,
    ),
    ("analyses/heads", "pruning"): table(
        "layer, number of heads removed",
        "layer removed",
        of("heads", removed="Indexer heads that are gone from the layer, or from every layer."),
        of(indexer_head="The head that goes at this step; null at first and over all layers."),
        of(
            "share",
            recall="Dense attention on what the remaining heads select.",
            recall_loss="Recall with all heads less that; above 0 is a loss.",
        ),
        interval("share", whose="the loss'"),
        of(
            "share",
            overlap="Keys of the model's own selection that are kept.",
            flops_share="What remains of the operations of the indexers' query-key products.",
        ),
        of("samples", n="Samples that the row is of; none had part in choosing the order."),
    ),
    ("analyses/heads", "lift"): table(
        "layer, indexer head, axis, bin",
        "layer indexer_head axis bin",
        _HEAD,
        of(label="The bin in words."),
        of("ratio", lift="Keys of the head's own top k relative to chance."),
        interval("ratio"),
        of("keys", selections="Keys of the own top k in the bin.", expected="The same by chance."),
        SAMPLES,
    ),
    ("analyses/heads", "score_moments"): table(
        "layer, indexer head, group",
        "layer indexer_head group",
        _HEAD,
        RESULTS["analyses/distribution", "score_moments"].columns[1:],
        ordered=False,
    ),
    ("analyses/heads", "score_quantiles"): table(
        "layer, indexer head, group, quantile",
        "layer indexer_head group quantile",
        _HEAD,
        RESULTS["analyses/distribution", "score_quantiles"].columns[1:],
        ordered=False,
    ),
}
