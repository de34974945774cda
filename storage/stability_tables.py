"""The tables on how many keys would do, how scores drift, and how stable selections are."""

from __future__ import annotations

from storage.columns import SAMPLES, Column, Table, interval, of, table
from storage.result_tables import RESULTS

_METRICS = RESULTS["analyses/distribution", "metrics"]
_PER_SAMPLE = RESULTS["analyses/distribution", "per_sample"]
_QUERIES = of("queries", queries="Probed queries of the row.", weight="Queries that they stand for.")
_IN_EFFECT = of(
    "queries",
    queries="Probed queries in effect of the row: with more eligible keys than are selected.",
    weight="Queries that they stand for.",
)
_VARIANT = of(variant="How scores were rounded, ties broken or the sequence fed.")


def _band(unit: str, prefix: str = "") -> tuple[Column, ...]:
    return interval(unit, f"{prefix}ci_low", f"{prefix}ci_high", "the")


_SCORES_OF_ALL = of(
    "score",
    "weight",
    mean="Mean index score of a query's eligible keys.",
    sd="Standard deviation of a query's index scores.",
)
_SCORES_IN_EFFECT = of(
    "score",
    "weight_in_effect",
    threshold="The k-th score: the last that is selected.",
    selected_mean="Mean score of the selected keys.",
    selected_sd="Standard deviation of the selected keys' scores.",
    unselected_mean="Mean score of the keys that are not selected.",
    unselected_sd="Standard deviation of their scores.",
)

STABILITY: dict[tuple[str, str], Table] = {
    ("probes", "keys_needed"): table(
        "sample, layer, bucket, target",
        "sample layer bucket target",
        of("share", target="Share of the head-mean attention that the keys are to hold."),
        _QUERIES,
        of("keys", "weight", eligible="Eligible keys.", attended="Keys that the model attends to."),
        of("keys", own_k="Most keys that one query selects; null where the layer is dense."),
        of("share", "weight", own_recall="Attention on the keys that the model attends to."),
        of("keys", "weight", oracle_keys="Keys needed if the most attended come first."),
        of("share", "weight", oracle_mass="What these hold."),
        of(
            "keys",
            "weight",
            indexer_keys="Keys needed in the order of the index scores, equal scores counting as their mean.",
        ),
        of("share", "weight", indexer_mass="What these hold."),
    ),
    ("probes", "recall_at_k"): table(
        "sample, layer, k",
        "sample layer k",
        of("keys", k="Keys that every query may attend to at most."),
        _QUERIES,
        of(
            "share",
            "weight",
            indexer_recall="Attention on the k keys of the largest index scores, in expectation over ties.",
            oracle_recall="Attention on the k most attended keys.",
        ),
        of("keys", "weight", kept="Keys attended to: the smaller of k and the eligible keys."),
    ),
    ("probes", "score_drift"): table(
        "sample, layer, bucket",
        "sample layer bucket",
        of(
            "queries",
            queries="Probed queries with more than one scored key.",
            weight="Queries that they stand for.",
            queries_in_effect="Those of them in effect.",
            weight_in_effect="Queries that these stand for.",
        ),
        _SCORES_OF_ALL,
        of("share", "weight", zero_share="Keys whose score is exactly zero."),
        _SCORES_IN_EFFECT,
        of("sd", "weight_in_effect", margin="How far the k-th score lies above the next one."),
    ),
    ("probes", "selection_stability"): table(
        "sample, layer, bucket, variant",
        "sample layer bucket variant",
        _VARIANT,
        _IN_EFFECT,
        of(
            "share",
            "weight",
            changed="Selected keys that are lost; for ties, between the earliest and the latest choice.",
            any_changed="Queries that lose any.",
            recall_change="Attention on the changed selection less that on the exact one.",
            near_tie="Queries whose k-th and next score are equal in the variant.",
            tie_share="Selected keys that were chosen between equal scores of the variant.",
        ),
    ),
    ("probes", "selection_rerun"): table(
        "sample, layer, variant",
        "sample layer variant",
        _VARIANT,
        _IN_EFFECT,
        of("share", "weight", changed="Selected keys that the run with the variant in all layers lacks."),
    ),
    ("probes", "output_stability"): table(
        "sample, bucket, variant",
        "sample bucket variant",
        _VARIANT,
        of("tokens", tokens="Probed queries of the row.", weight="Queries that they stand for."),
        of("nats", "weight", kl="Divergence of the next-token distribution from the reference run's."),
        of("nats", max_kl="Largest divergence."),
        of("share", "weight", top1_equal="Queries whose most likely next token is the same."),
        of("tokens", nll_weight="Queries with a next token that those at hand stand for."),
        of("nats", "nll_weight", nll_change="Negative log-likelihood of the next token less the reference run's."),
    ),
    ("analyses/budget", "metrics"): _METRICS,
    ("analyses/budget", "per_sample"): _PER_SAMPLE,
    ("analyses/budget", "budgets"): table(
        "layer, target, method",
        "layer target method",
        of("share", target="Share of the attention to be held; null for the model's own budget."),
        of(
            method="Whose budget: the model's, one k for all queries or for a layer, or one for each query in an order."
        ),
        of("keys", k="The k of all queries, interpolated; null for budgets of each query's own, and if never reached."),
        of("keys", keys="Keys attended to by a query on average."),
        _band("keys"),
        of("share", recall="Attention that they hold.", share="The keys as a share of the eligible ones."),
        of("ratio", relative_attention="The keys relative to those that the model attends to."),
        SAMPLES,
        ordered=False,
    ),
    ("analyses/budget", "curve"): table(
        "layer, k",
        "layer k",
        of("keys", k="Keys that every query may attend to at most."),
        of("share", indexer_recall="Attention on the k keys of the largest index scores."),
        _band("share"),
        of("share", oracle_recall="Attention on the k most attended keys."),
        _band("share", "oracle_"),
        of("keys", kept="Keys attended to by a query on average."),
        SAMPLES,
    ),
    ("analyses/budget", "drift"): table(
        "layer, bucket, quantity",
        "layer bucket quantity",
        of(quantity="Column of the probe's score_drift."),
        of("as in score_drift", value="Its mean over queries."),
        _band("as in score_drift"),
        SAMPLES,
        ordered=False,
    ),
    ("analyses/stability", "metrics"): _METRICS,
    ("analyses/stability", "per_sample"): _PER_SAMPLE,
    ("analyses/stability", "variants"): table(
        "layer, variant",
        "layer variant",
        _VARIANT,
        of("share", changed="Selected keys that are lost."),
        _band("share"),
        of(
            "share",
            any_changed="Queries that lose any.",
            recall_change="Attention on the changed selection less that on the exact one.",
        ),
        _band("share", "recall_"),
        of(
            "share",
            near_tie="Queries whose k-th and next score are equal.",
            tie_share="Selected keys that were chosen between equal scores.",
        ),
        SAMPLES,
    ),
    ("analyses/stability", "fragility"): table(
        "layer",
        "layer",
        of(
            "share",
            changed_ties="Selected keys that ties leave open.",
            changed_fp8="Selected keys that FP8 scores lose.",
            tie_share="Selected keys that were chosen between equal scores.",
        ),
        of("sd", margin="How far the k-th score lies above the next one."),
        of(reason="Why the layer's selection is fragile: ties or small margins; else robust."),
        SAMPLES,
    ),
    ("analyses/stability", "rerun"): table(
        "layer, variant",
        "layer variant",
        _VARIANT,
        of("share", changed="Selected keys that the run with the variant in all layers lacks."),
        _band("share"),
        SAMPLES,
    ),
    ("analyses/stability", "outputs"): table(
        "variant",
        "variant",
        _VARIANT,
        of("nats", kl="Divergence of the next-token distribution from the reference run's."),
        _band("nats"),
        of("nats", max_kl="Largest divergence of a query."),
        of("share", top1_equal="Queries whose most likely next token is the same."),
        of("nats", nll_change="Negative log-likelihood of the next token less the reference run's."),
        _band("nats", "nll_"),
        SAMPLES,
    ),
}
