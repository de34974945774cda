"""Where each indexer head's own selection falls, corrected for exposure as in `analysis.positional`."""

from __future__ import annotations

import polars as pl

from analysis.heads.spread import Spread, estimate
from analysis.metrics.summary import finite_or_null
from analysis.positional.lift import label
from analysis.settings import BootstrapSettings

LIFTED = {
    "layer": pl.Int16,
    "indexer_head": pl.Int16,
    "axis": pl.String,
    "bin": pl.Int32,
    "label": pl.String,
    "lift": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "selections": pl.Float64,
    "expected": pl.Float64,
    "n": pl.Int32,
}


def lift(positions: pl.DataFrame, settings: BootstrapSettings) -> pl.DataFrame:
    """Selections of each head's own top k over those of a random selector, by bin, with bands by resampling samples.

    Args:
        positions: The table ``indexer_head_positions``.
        settings: The bootstrap.

    Returns:
        layer, indexer_head, axis, bin, label, lift, ci_low, ci_high, selections, expected, n (samples that reach the
        bin).
    """
    frames = [pl.DataFrame(schema=LIFTED)]
    # A layer at a time bounds the memory; the resamples are the same in all.
    for (axis, _), own in positions.sort("axis", "layer").group_by("axis", "layer", maintain_order=True):
        spread = Spread(own, ("layer", "indexer_head", "bin"))
        selections, expected = spread.sums("selections")[0], spread.sums("expected_selections")[0]
        found = estimate(selections, expected, settings)
        columns = {
            "lift": found.value,
            "ci_low": found.low,
            "ci_high": found.high,
            "selections": selections.sum(axis=0),
            "expected": expected.sum(axis=0),
            "n": found.n,
        }
        frame = spread.cells.hstack(pl.DataFrame(columns)).with_columns(
            *finite_or_null("lift", "ci_low", "ci_high"),
            axis=pl.lit(str(axis)),
            label=pl.Series([label(str(axis), int(bin_)) for bin_ in spread.cells["bin"]], dtype=pl.String),
        )
        frames.append(frame.select(*LIFTED).cast(pl.Schema(LIFTED)))
    return pl.concat(frames).sort("layer", "indexer_head", "axis", "bin")
