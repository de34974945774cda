"""Which layers' selections are fragile, and why."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.stability.tables import FRAGILITY

TIES, MARGINS, ROBUST = "ties", "small margins", "robust"


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
