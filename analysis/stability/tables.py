"""The tables of how stable selections and predictions are: the close-up's and the analysis'."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.metrics.tables import BOTH
from indexscope.columns import SAMPLES, band, of, table_of

_VARIANT = of(pl.String, variant="How scores were rounded, ties broken or the sequence fed.")
_IN_EFFECT = (
    *of(
        pl.Int32,
        "queries",
        queries="Sampled queries in effect of the row: with more eligible keys than are selected.",
    ),
    *of(pl.Float64, "queries", weight="Queries that they stand for."),
)

SELECTION_STABILITY = table_of(
    "sample, layer, bucket, variant",
    "sample layer bucket variant",
    _VARIANT,
    _IN_EFFECT,
    of(
        pl.Float64,
        "share",
        "weight",
        changed="Selected keys that are lost; for ties, between the earliest and the latest choice.",
        any_changed="Queries that lose any.",
        recall_change="Attention on the changed selection less that on the exact one.",
        near_tie="Queries whose k-th and next score are equal in the variant.",
        tie_share="Selected keys that were chosen between equal scores of the variant.",
    ),
)
SELECTION_RERUN = table_of(
    "sample, layer, variant",
    "sample layer variant",
    _VARIANT,
    _IN_EFFECT,
    of(
        pl.Float64,
        "share",
        "weight",
        changed="Selected keys that the run with the variant in all layers lacks.",
    ),
)
OUTPUT_STABILITY = table_of(
    "sample, bucket, variant",
    "sample bucket variant",
    _VARIANT,
    of(pl.Int32, "tokens", tokens="Sampled queries of the row."),
    of(pl.Float64, "tokens", weight="Queries that they stand for."),
    of(pl.Float64, "nats", "weight", kl="Divergence of the next-token distribution from the reference run's."),
    of(pl.Float64, "nats", max_kl="Largest divergence."),
    of(pl.Float64, "share", "weight", top1_equal="Queries whose most likely next token is the same."),
    of(pl.Float64, "tokens", nll_weight="Queries with a next token that those at hand stand for."),
    of(
        pl.Float64,
        "nats",
        "nll_weight",
        nll_change="Negative log-likelihood of the next token less the reference run's.",
    ),
)
VARIANTS = table_of(
    "layer, variant",
    "layer variant",
    _VARIANT,
    of(pl.Float64, "share", changed="Selected keys that are lost."),
    band("share"),
    of(
        pl.Float64,
        "share",
        any_changed="Queries that lose any.",
        recall_change="Attention on the changed selection less that on the exact one.",
    ),
    band("share", "recall_"),
    of(
        pl.Float64,
        "share",
        near_tie="Queries whose k-th and next score are equal.",
        tie_share="Selected keys that were chosen between equal scores.",
    ),
    SAMPLES,
)
FRAGILITY = table_of(
    "layer",
    "layer",
    of(
        pl.Float64,
        "share",
        changed_ties="Selected keys that ties leave open.",
        changed_fp8="Selected keys that FP8 scores lose.",
        tie_share="Selected keys that were chosen between equal scores.",
    ),
    of(pl.Float64, "sd", margin="How far the k-th score lies above the next one."),
    of(pl.String, reason="Why the layer's selection is fragile: ties or small margins; else robust."),
    SAMPLES,
)
RERUN = table_of(
    "layer, variant",
    "layer variant",
    _VARIANT,
    of(pl.Float64, "share", changed="Selected keys that the run with the variant in all layers lacks."),
    band("share"),
    SAMPLES,
)
OUTPUTS = table_of(
    "variant",
    "variant",
    _VARIANT,
    of(pl.Float64, "nats", kl="Divergence of the next-token distribution from the reference run's."),
    band("nats"),
    of(pl.Float64, "nats", max_kl="Largest divergence of a query."),
    of(pl.Float64, "share", top1_equal="Queries whose most likely next token is the same."),
    of(pl.Float64, "nats", nll_change="Negative log-likelihood of the next token less the reference run's."),
    band("nats", "nll_"),
    SAMPLES,
)
COLLECTED = {"selection_stability": SELECTION_STABILITY}
RERUN_TABLES = {"selection_rerun": SELECTION_RERUN, "output_stability": OUTPUT_STABILITY}
RESULTS = {**BOTH, "variants": VARIANTS, "fragility": FRAGILITY, "rerun": RERUN, "outputs": OUTPUTS}
