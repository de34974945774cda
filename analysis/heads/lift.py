"""Where each indexer head's own selection falls, corrected for exposure as in `indexscope.analysis.positional`."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.heads.spread import Spread, estimate
from indexscope.analysis.heads.tables import LIFTED
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.positional.lift import label
from indexscope.analysis.settings import BootstrapSettings


def lift(positions: pl.DataFrame, settings: BootstrapSettings) -> pl.DataFrame:
    """Selections of each head's own top k over those of a random selector, by bin, with bands by resampling samples.

    Args:
        positions: The table ``indexer_head_positions``.
        settings: The bootstrap.

    Returns:
        layer, indexer_head, axis, bin, label, lift, ci_low, ci_high, selections, expected, n (samples that reach the
        bin).
    """
    frames = [LIFTED.empty()]
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
        frames.append(LIFTED.shaped(frame))
    return pl.concat(frames).sort("layer", "indexer_head", "axis", "bin")
