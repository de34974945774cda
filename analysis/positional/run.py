"""Positional lift and bias of the selection, with bands from resampled samples."""

from __future__ import annotations

import polars as pl

from analysis.metrics.summary import METRICS, summarise
from analysis.metrics.sums import PER_SAMPLE, Features, Sums, join, layered, per_sample
from analysis.positional.bias import linearised_bias
from analysis.positional.lift import LIFT, lift_rows
from analysis.positional.tally import Tally, tally
from analysis.settings import PositionalBiasSettings

# Distances below 32 are bins 0 to 5; the oldest tenth of E_t is relative bin 0.
RECENT_BINS = 5
OLDEST_BIN = 0


def run(features: Features, settings: PositionalBiasSettings) -> dict[str, pl.DataFrame]:
    """Where the indexer selects and the attention goes, relative to chance.

    Args:
        features: Feature tables; only ``positions`` is read.
        settings: The bootstrap.

    Returns:
        lift: layer (null for all), axis, bin, label, lift with ci_low and ci_high, attention_lift with
        attention_ci_low and attention_ci_high, selections, expected, n (samples that reach the bin). lift is null for
        models without an indexer.
        metrics and per_sample: positional_bias, recency_lift and oldest_lift, where there is a selection. The values of
        positional_bias by sample are its linearisation: their weighted mean is the metric.
    """
    frame = features.get("positions")
    if frame is None or frame.is_empty():
        return {
            "lift": pl.DataFrame(schema=LIFT),
            "metrics": pl.DataFrame(schema=METRICS),
            "per_sample": pl.DataFrame(schema=PER_SAMPLE),
        }
    tallies = {str(axis): tally(own) for (axis,), own in frame.sort("axis").group_by("axis", maintain_order=True)}
    lift = pl.concat([lift_rows(axis, own, settings) for axis, own in tallies.items()])
    if frame["selections"].null_count() == frame.height:
        return {"lift": lift, "metrics": pl.DataFrame(schema=METRICS), "per_sample": pl.DataFrame(schema=PER_SAMPLE)}
    parts = []
    if "distance" in tallies:
        parts += [linearised_bias(tallies["distance"]), _share("recency_lift", tallies["distance"], RECENT_BINS)]
    if "relative" in tallies:
        parts.append(_share("oldest_lift", tallies["relative"], OLDEST_BIN))
    sums = join(parts, features)
    return {"lift": lift, "metrics": summarise(sums, settings), "per_sample": per_sample(sums)}


def _share(name: str, own: Tally, last_bin: int) -> Sums:
    kept = own.bins <= last_bin
    parts = {name: (own.selections[..., kept].sum(axis=-1), own.expected[..., kept].sum(axis=-1))}
    return layered(own.samples, own.layers.tolist(), parts)
