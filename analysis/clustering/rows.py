"""What is known of each attention pattern: one row of features a sample, layer and head."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.features.columns import ATTENTION, HEADS
from indexscope.analysis.metrics.sums import Features
from indexscope.columns import of

# Earlier queries see so few keys that any pattern looks like any other: bucket 4 starts at t = 15.
FIRST_BUCKET = 4
FIRST_QUERY = 2**FIRST_BUCKET - 1
# The largest weight is left out: it says what the entropy says, and differs more from text to text.
SHARES = (
    "normalized_entropy",
    "local_mass",
    "sink_mass",
    "self_mass",
    "previous_mass",
    "induction_mass",
)
SHAPES = ("vertical_mass", "slash_mass", "block_mass")
FEATURES = (*SHARES, *SHAPES, "reach")
_REACH = of(pl.Float64, reach="Mean distance of the attention relative to that of uniform attention.")
#: What each is and is called: as the column that it comes from.
_KNOWN = {one.name: one for one in (*ATTENTION.columns, *HEADS.columns, *_REACH)}
COLUMNS = tuple(_KNOWN[name] for name in FEATURES)
# Noise gives maps without blocks about 0.03; standardised, it would count as much as any other feature.
NO_BLOCKS = 0.05
KEYS = ("sample", "layer", "head")
ROWS = {"sample": pl.Int32, "layer": pl.Int16, "head": pl.Int16, **dict.fromkeys(FEATURES, pl.Float64)}


def pattern_rows(features: Features) -> pl.DataFrame:
    """Means over the queries from position 15 on, one row a sample, layer and head, sorted.

    Returns:
        sample, layer, head and FEATURES: shares of the attention as in the metrics of the same names; vertical_mass
        and slash_mass (what the four most attended keys after the sinks and the strongest single distance >= 2 hold);
        block_mass (what whole aligned blocks of keys hold; 0 below 0.05, and in samples of fewer than 64 tokens);
        reach, the mean distance relative to that of uniform attention, so that 1 is as far as uniform. Rows that lack
        a feature (samples of 15 tokens or fewer) are left out.
    """
    attention, heads = features.get("attention"), features.get("heads")
    if attention is None or heads is None or attention.is_empty() or heads.is_empty():
        return pl.DataFrame(schema=ROWS)
    late = attention.filter(pl.col("bucket") >= FIRST_BUCKET).sort(*KEYS, "bucket")
    weight = pl.col("queries").cast(pl.Float64)
    means = [((pl.col(name) * weight).sum() / weight.sum()).alias(name) for name in (*SHARES, "mean_distance")]
    rows = late.group_by(KEYS, maintain_order=True).agg(*means, weight.sum().alias("count"))
    # Queries t = 15 ... 14 + count; uniform attention over t + 1 keys has a mean distance of t / 2.
    uniform = (pl.col("count") - 1 + 2 * FIRST_QUERY) / 4
    rows = rows.with_columns(reach=pl.col("mean_distance") / uniform)
    blocks = pl.when(pl.col("block_mass") >= NO_BLOCKS).then("block_mass").otherwise(0.0)
    shapes = heads.select(*KEYS, *SHAPES).with_columns(block_mass=blocks)
    rows = rows.join(shapes, on=KEYS, how="inner").cast({name: pl.Float64 for name in FEATURES})
    complete = pl.all_horizontal(pl.col(name).is_finite().fill_null(False) for name in FEATURES)
    return rows.filter(complete).select(*ROWS).cast(ROWS).sort(KEYS)  # type: ignore[arg-type]
