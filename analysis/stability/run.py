"""Stability of the selection and of what the model predicts."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from indexscope.analysis.metrics.ratios import cells, ratio_table, sample_sums, with_all_layers
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.summary import summarise
from indexscope.analysis.metrics.sums import Sums, join, per_sample
from indexscope.analysis.stability import StabilitySettings
from indexscope.analysis.stability.tables import (
    FRAGILITY,
    OUTPUT_STABILITY,
    OUTPUTS,
    RERUN,
    RESULTS,
    SELECTION_STABILITY,
    VARIANTS,
)
from indexscope.analysis.statistics.ranges import CHANGE, NOT_NEGATIVE, SHARE
from indexscope.columns import empty

TIES, MARGINS, ROBUST = "ties", "small margins", "robust"
#: Raise it when any number of the analysis would change.
VERSION = 2

BAND = ("ci_low", "ci_high")
WITHIN = {"changed": SHARE, "recall_change": CHANGE, "kl": NOT_NEGATIVE}


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: StabilitySettings) -> dict[str, pl.DataFrame]:
    """How much of the selection and of the predictions hangs on ties and on precision.

    Args:
        features: The close-up's tables; ``selection_stability``, ``score_drift`` (for margins), ``selection_rerun`` and
            ``output_stability`` are read.
        settings: The bootstrap, and what counts as fragile.

    Returns:
        variants: by layer (null for all) and variant, what changes of the selection made from the same scores.
        fragility: by layer, why it is fragile. rerun: by layer and variant, what changes of the selection when the
        model runs again, propagation through earlier layers included. outputs: by variant, what changes of the
        next-token distribution. metrics and per_sample: selection_changed_* and output_kl_*.
    """
    found = empty(RESULTS)
    parts: list[Sums] = []
    layered = ("layer", "variant")
    again = sample_sums(features, "selection_stability", layered, SELECTION_STABILITY.weights)
    if again is not None:
        sums = with_all_layers(again)
        bands = {"changed": BAND, "recall_change": ("recall_ci_low", "recall_ci_high")}
        table = ratio_table(sums, layered, bands, settings, ("any_changed", "near_tie", "tie_share"), WITHIN)
        found["variants"] = VARIANTS.shaped(table)
        found["fragility"] = fragility(found["variants"], _margins(features, settings), settings.fragile)
        parts.append(_metric(sums, "changed", "selection_changed"))
    reruns = sample_sums(features, "selection_rerun", layered, {"changed": "weight"})
    if reruns is not None:
        table = ratio_table(with_all_layers(reruns), layered, {"changed": BAND}, settings, within=WITHIN)
        found["rerun"] = RERUN.shaped(table)
    outputs = sample_sums(features, "output_stability", ("variant",), OUTPUT_STABILITY.weights)
    if outputs is not None:
        found["outputs"] = _outputs(features, outputs, settings)
        parts.append(_metric(outputs.with_columns(layer=pl.lit(None, dtype=pl.Int16)), "kl", "output_kl"))
    if parts:
        joined = join(parts)
        found |= {"metrics": summarise(joined, settings), "per_sample": per_sample(joined)}
    return found


def _metric(sums: pl.DataFrame, column: str, prefix: str) -> Sums:
    """One metric a variant."""
    own = cells(sums, ("variant", "layer"), column)
    places = tuple((f"{prefix}_{variant}", layer) for variant, layer in own.groups.iter_rows())
    return Sums(own.samples, places, own.numerator, own.denominator)


def _outputs(
    features: Mapping[str, pl.DataFrame] | Sharded, sums: pl.DataFrame, settings: StabilitySettings
) -> pl.DataFrame:
    bands = {"kl": BAND, "nll_change": ("nll_ci_low", "nll_ci_high")}
    table = ratio_table(sums, ("variant",), bands, settings, ("top1_equal",), WITHIN)
    seen = [part["output_stability"] for part in shards(features, ("output_stability",)) if "output_stability" in part]
    highest = pl.concat([part.group_by("variant").agg(pl.col("max_kl").max()) for part in seen])
    highest = highest.group_by("variant").agg(pl.col("max_kl").max())
    return OUTPUTS.shaped(table.join(highest, on="variant", how="left")).sort("variant")


def _margins(features: Mapping[str, pl.DataFrame] | Sharded, settings: StabilitySettings) -> pl.DataFrame:
    sums = sample_sums(features, "score_drift", ("layer",), {"margin": "weight_in_effect"})
    if sums is None:
        return pl.DataFrame(schema={"layer": pl.Int16, "margin": pl.Float64})
    return ratio_table(sums, ("layer",), {"margin": BAND}, settings).select("layer", "margin")


def fragility(variants: pl.DataFrame, margins: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """One row a layer with index scores.

    A layer is "robust" where neither ties nor FP8 scores change as much as ``threshold`` of its selection. Otherwise
    the larger of the two changes names the reason: "ties" where equal scores alone leave that much open, "small
    margins" where scores that differ are too close for FP8 to keep apart.

    Args:
        variants: The frame ``variants`` of the analysis.
        margins: layer and margin, the mean of (k-th - next score) / sd.
        threshold: Share of the selection.
    """
    by_layer = variants.filter(pl.col("layer").is_not_null())
    ties, fp8 = (
        by_layer.filter(pl.col("variant") == name).select("layer", pl.col("changed").alias(f"changed_{name}"), *more)
        for name, more in (("ties", ("tie_share", "n")), ("fp8", ()))
    )
    frame = ties.join(fp8, on="layer", how="left").join(margins, on="layer", how="left").sort("layer")
    largest = pl.max_horizontal("changed_ties", "changed_fp8")
    reason = (
        pl.when(largest < threshold)
        .then(pl.lit(ROBUST))
        .when(pl.col("changed_ties") >= pl.col("changed_fp8"))
        .then(pl.lit(TIES))
        .otherwise(pl.lit(MARGINS))
    )
    return FRAGILITY.shaped(frame.with_columns(reason=reason))
