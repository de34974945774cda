"""Stability of the selection and of what the model predicts."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from analysis.metrics.ratios import cells, ratio_table, sample_sums, with_all_layers
from analysis.metrics.stream import Sharded, shards
from analysis.metrics.summary import METRICS, summarise
from analysis.metrics.sums import PER_SAMPLE, Sums, join, per_sample
from analysis.settings import StabilitySettings
from analysis.stability.fragility import FRAGILITY, fragility

BAND = ("ci_low", "ci_high")
VARIANTS: dict[str, type[pl.DataType]] = {
    "layer": pl.Int16,
    "variant": pl.String,
    "changed": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "any_changed": pl.Float64,
    "recall_change": pl.Float64,
    "recall_ci_low": pl.Float64,
    "recall_ci_high": pl.Float64,
    "near_tie": pl.Float64,
    "tie_share": pl.Float64,
    "n": pl.Int32,
}
OUTPUTS: dict[str, type[pl.DataType]] = {
    "variant": pl.String,
    "kl": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "max_kl": pl.Float64,
    "top1_equal": pl.Float64,
    "nll_change": pl.Float64,
    "nll_ci_low": pl.Float64,
    "nll_ci_high": pl.Float64,
    "n": pl.Int32,
}
RERUN: dict[str, type[pl.DataType]] = {
    "layer": pl.Int16,
    "variant": pl.String,
    "changed": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n": pl.Int32,
}
_SHARES = ("changed", "any_changed", "recall_change", "near_tie", "tie_share")


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: StabilitySettings) -> dict[str, pl.DataFrame]:
    """How much of the selection and of the predictions hangs on ties and on precision.

    Args:
        features: The probe's tables; ``selection_stability``, ``score_drift`` (for margins), ``selection_rerun`` and
            ``output_stability`` are read.
        settings: The bootstrap, and what counts as fragile.

    Returns:
        variants: by layer (null for all) and variant, what changes of the selection made from the same scores.
        fragility: by layer, why it is fragile. rerun: by layer and variant, what changes of the selection when the
        model runs again, propagation through earlier layers included. outputs: by variant, what changes of the
        next-token distribution. metrics and per_sample: selection_changed_* and output_kl_*.
    """
    found = {
        "metrics": pl.DataFrame(schema=METRICS),
        "per_sample": pl.DataFrame(schema=PER_SAMPLE),
        "variants": pl.DataFrame(schema=VARIANTS),
        "fragility": pl.DataFrame(schema=FRAGILITY),
        "rerun": pl.DataFrame(schema=RERUN),
        "outputs": pl.DataFrame(schema=OUTPUTS),
    }
    parts: list[Sums] = []
    layered = ("layer", "variant")
    again = sample_sums(features, "selection_stability", layered, dict.fromkeys(_SHARES, "weight"))
    if again is not None:
        sums = with_all_layers(again)
        bands = {"changed": BAND, "recall_change": ("recall_ci_low", "recall_ci_high")}
        table = ratio_table(sums, layered, bands, settings, ("any_changed", "near_tie", "tie_share"))
        found["variants"] = table.select(*VARIANTS).cast(pl.Schema(VARIANTS))
        found["fragility"] = fragility(found["variants"], _margins(features, settings), settings.fragile)
        parts.append(_metric(sums, "changed", "selection_changed"))
    reruns = sample_sums(features, "selection_rerun", layered, {"changed": "weight"})
    if reruns is not None:
        table = ratio_table(with_all_layers(reruns), layered, {"changed": BAND}, settings)
        found["rerun"] = table.select(*RERUN).cast(pl.Schema(RERUN))
    rules = {"kl": "weight", "top1_equal": "weight", "nll_change": "nll_weight"}
    outputs = sample_sums(features, "output_stability", ("variant",), rules)
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
    table = ratio_table(sums, ("variant",), bands, settings, ("top1_equal",))
    seen = [part["output_stability"] for part in shards(features, ("output_stability",)) if "output_stability" in part]
    highest = pl.concat([part.group_by("variant").agg(pl.col("max_kl").max()) for part in seen])
    highest = highest.group_by("variant").agg(pl.col("max_kl").max())
    return table.join(highest, on="variant", how="left").select(*OUTPUTS).cast(pl.Schema(OUTPUTS)).sort("variant")


def _margins(features: Mapping[str, pl.DataFrame] | Sharded, settings: StabilitySettings) -> pl.DataFrame:
    sums = sample_sums(features, "score_drift", ("layer",), {"margin": "weight_in_effect"})
    if sums is None:
        return pl.DataFrame(schema={"layer": pl.Int16, "margin": pl.Float64})
    return ratio_table(sums, ("layer",), {"margin": BAND}, settings).select("layer", "margin")
