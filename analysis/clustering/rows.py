"""What is known of each attention pattern: one row of features a sample, layer and head."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.features.columns import ATTENTION, HEADS
from indexscope.analysis.metrics.sums import Features
from indexscope.columns import of

# Earlier queries see so few keys that any pattern looks like any other: bucket 4 starts at t = 15.
FIRST_BUCKET = 4
# Of uniform attention in the window, where it is no more than rounding away from all.
_WITHIN = 1 - 1e-6
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
#: What uniform attention has at the same queries, and how sharp the map is: what the rules compare with.
UNIFORM = ("uniform_key", "uniform_local", "uniform_sink", "uniform_induction")
GIVEN = (*UNIFORM, "max_weight", "queries", "mapped_queries", "keys", "beyond_mass")
ROWS = {"sample": pl.Int32, "layer": pl.Int16, "head": pl.Int16, **dict.fromkeys((*FEATURES, *GIVEN), pl.Float64)}


def pattern_rows(features: Features) -> pl.DataFrame:
    """Means over the queries from position 15 on, one row a sample, layer and head, sorted.

    Returns:
        sample, layer, head and FEATURES: shares of the attention as in the metrics of the same names; vertical_mass
        and slash_mass (what the four most attended keys after the sinks and the strongest single distance >= 2 hold);
        block_mass (what whole aligned blocks of keys hold; 0 below 0.05, and in samples of fewer than 64 tokens);
        reach, the mean distance relative to that of uniform attention over the same queries, so that 1 is as far.
        Then GIVEN, what the rules compare with: UNIFORM as in the table of attention; max_weight; the queries of the
        attention and of the map's shape; keys, of which there are no more; beyond_mass, attention beyond the window
        and the sinks in those buckets that reach beyond the window, which count as half of the queries at least.
        Rows that lack any (samples of 15 tokens or fewer) are left out.
    """
    attention, heads = features.get("attention"), features.get("heads")
    if attention is None or heads is None or attention.is_empty() or heads.is_empty():
        return pl.DataFrame(schema=ROWS)
    late = attention.filter(pl.col("bucket") >= FIRST_BUCKET).sort(*KEYS, "bucket")
    weight = pl.col("queries").cast(pl.Float64)
    averaged = (*SHARES, *UNIFORM, "max_weight", "mean_distance", "uniform_distance")
    means = [((pl.col(name) * weight).sum() / weight.sum()).alias(name) for name in averaged]
    far = weight.filter(pl.col("uniform_local") < _WITHIN).sum()
    outside = (1.0 - pl.col("local_mass") - pl.col("sink_mass")) * weight
    rows = late.group_by(KEYS, maintain_order=True).agg(
        *means,
        queries=weight.sum(),
        # The last bucket's end; a bucket has as many queries as positions before it.
        keys=pl.lit(2.0).pow(pl.col("bucket").max() + 1),
        beyond_mass=outside.filter(pl.col("uniform_local") < _WITHIN).sum() / pl.max_horizontal(far, weight.sum() / 2),
    )
    rows = rows.with_columns(reach=pl.col("mean_distance") / pl.col("uniform_distance"))
    blocks = pl.when(pl.col("block_mass") >= NO_BLOCKS).then("block_mass").otherwise(0.0)
    shapes = heads.select(*KEYS, *SHAPES, mapped_queries="queries").with_columns(block_mass=blocks)
    rows = rows.join(shapes, on=KEYS, how="inner").cast(dict.fromkeys((*FEATURES, *GIVEN), pl.Float64))
    complete = pl.all_horizontal(pl.col(name).is_finite().fill_null(False) for name in (*FEATURES, *GIVEN))
    return rows.filter(complete).select(*ROWS).cast(ROWS).sort(KEYS)  # type: ignore[arg-type]
