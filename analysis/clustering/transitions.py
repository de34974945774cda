"""How a candidate's attention patterns moved between the clusters and types that it shares with the baseline."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from analysis.clustering.rows import KEYS
from analysis.settings import BootstrapSettings
from analysis.statistics import bootstrap_ratios, interval, ratio

TRANSITIONS = {
    "candidate": pl.String,
    "layer": pl.Int16,
    "of": pl.String,
    "before": pl.String,
    "after": pl.String,
    "share": pl.Float64,
    "count": pl.Int64,
}
MOVED = {
    "candidate": pl.String,
    "layer": pl.Int16,
    "of": pl.String,
    "moved": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n": pl.Int32,
}
LABELS = {"cluster": "cluster", "type": "pattern_type"}


def transitions(
    models: Mapping[str, pl.DataFrame], baseline: str, settings: BootstrapSettings
) -> dict[str, pl.DataFrame]:
    """Join the assignments of each candidate with the baseline's on sample, layer and head.

    Args:
        models: Model name to its assignments, with the same clusters in each.
        baseline: Name of the baseline.
        settings: The bootstrap over samples.

    Returns:
        transitions: candidate, layer (null for all), of ("cluster" or "type"), before (in the baseline), after (in the
        candidate), share of the rows with that before, count; the pairs that occur.
        moved: candidate, layer, of, moved (share of rows whose cluster or type is another), ci_low, ci_high, n
        (samples). Rows that only one of the models has count in neither.
    """
    tables, shares = [pl.DataFrame(schema=TRANSITIONS)], [pl.DataFrame(schema=MOVED)]
    for name, assignments in models.items():
        if name == baseline:
            continue
        both = _paired(models[baseline], assignments)
        if both.is_empty():
            continue
        for of in LABELS:
            for grouped in (both.with_columns(layer=pl.lit(None, dtype=pl.Int16)), both):
                tables.append(_counts(grouped, of).with_columns(candidate=pl.lit(name), of=pl.lit(of)))
                shares.append(_moved(grouped, of, settings).with_columns(candidate=pl.lit(name), of=pl.lit(of)))
    return {
        "transitions": pl.concat([table.select(*TRANSITIONS).cast(TRANSITIONS) for table in tables]),  # type: ignore[arg-type]
        "moved": pl.concat([table.select(*MOVED).cast(MOVED) for table in shares]),  # type: ignore[arg-type]
    }


def _paired(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Rows counted by sample, layer and what they were and are: far fewer than one a head."""
    columns = list(LABELS.values())
    joined = before.lazy().select(*KEYS, *columns).join(after.lazy().select(*KEYS, *columns), on=KEYS, suffix="_after")
    keys = ["sample", "layer", *columns, *(f"{column}_after" for column in columns)]
    return joined.group_by(keys).agg(rows=pl.len().cast(pl.Int64)).sort(keys).collect()


def _counts(both: pl.DataFrame, of: str) -> pl.DataFrame:
    before, after = pl.col(LABELS[of]).alias("before"), pl.col(f"{LABELS[of]}_after").alias("after")
    counts = both.group_by("layer", before, after).agg(count=pl.col("rows").sum())
    shares = counts.with_columns(share=pl.col("count") / pl.col("count").sum().over("layer", "before"))
    return shares.sort("layer", "before", "after").cast({"before": pl.String, "after": pl.String})


def _moved(both: pl.DataFrame, of: str, settings: BootstrapSettings) -> pl.DataFrame:
    other = pl.col(LABELS[of]) != pl.col(f"{LABELS[of]}_after")
    by_sample = both.group_by("layer", "sample").agg(
        moved=(other * pl.col("rows")).sum().cast(pl.Float64), rows=pl.col("rows").sum().cast(pl.Float64)
    )
    samples = np.unique(both["sample"].to_numpy())
    layers = by_sample["layer"].unique().sort().to_list()
    top, bottom = np.zeros((2, len(samples), len(layers)))
    place = np.searchsorted(samples, by_sample["sample"].to_numpy())
    column = [layers.index(layer) for layer in by_sample["layer"]]
    top[place, column], bottom[place, column] = by_sample["moved"].to_numpy(), by_sample["rows"].to_numpy()
    values = ratio(top.sum(axis=0), bottom.sum(axis=0))
    n = (bottom > 0).sum(axis=0)
    low, high = interval(
        values, bootstrap_ratios(top, bottom, settings.resamples, settings.seed), n, settings.confidence
    )
    found = {"layer": layers, "moved": values, "ci_low": low, "ci_high": high, "n": n}
    frame = pl.DataFrame(found, schema_overrides={"layer": pl.Int16})
    return frame.with_columns(pl.col("moved", "ci_low", "ci_high").fill_nan(None))
