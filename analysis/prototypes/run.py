"""Real attention maps to look at: the nearest to each cluster's centre, and examples of what selections lose."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from analysis.metrics.stream import Sharded
from analysis.probe.maps import unpacked
from analysis.prototypes import examples as chosen
from analysis.settings import PrototypeSettings

KEYS = ("sample", "layer", "head")
PROTOTYPES: dict[str, pl.DataType | type[pl.DataType]] = {
    "cluster": pl.Int16,
    "rank": pl.Int16,
    "sample": pl.Int32,
    "layer": pl.Int16,
    "head": pl.Int16,
    "pattern_type": pl.String,
    "distance": pl.Float64,
}
MAPS: dict[str, pl.DataType | type[pl.DataType]] = {
    "cluster": pl.Int16,
    "rank": pl.Int16,
    "length": pl.Int32,
    "query": pl.Int32,
    "attention": pl.Array(pl.Float32, 48),
}
SCHEMAS = {"prototypes": PROTOTYPES, "maps": MAPS, "examples": chosen.EXAMPLES, "example_maps": chosen.MAPS}


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: PrototypeSettings) -> dict[str, pl.DataFrame]:
    """The real maps nearest to each cluster's centre, among those that the probe kept (heads of every probed sample).

    Args:
        features: The probe's attention_maps and clustering.assignments; without either there are no prototypes, and
            without the first there are no examples.
        settings: How many of each cluster.

    Returns:
        prototypes: cluster, rank (0 the nearest), sample, layer, head, pattern_type, distance (to the centre, in the
        whitened space of the clustering). maps: cluster, rank, length, query, attention on 48 equal parts of the
        sequence. examples and example_maps: see `examples`.
    """
    if not isinstance(features, Mapping) or "attention_maps" not in features:
        return {name: pl.DataFrame(schema=schema) for name, schema in SCHEMAS.items()}
    maps = features["attention_maps"]
    examples, example_maps = chosen.examples(maps)
    found = {"examples": examples, "example_maps": example_maps}
    if maps.is_empty() or "clustering.assignments" not in features:
        return {"prototypes": pl.DataFrame(schema=PROTOTYPES), "maps": pl.DataFrame(schema=MAPS), **found}
    kept = features["clustering.assignments"].join(maps.select(KEYS).unique(), on=KEYS, how="semi")
    nearest = (
        kept.sort("cluster", "distance", *KEYS)
        .with_columns(rank=pl.int_range(pl.len()).over("cluster").cast(pl.Int16))
        .filter(pl.col("rank") < settings.of_each)
    )
    drawn = nearest.select("cluster", "rank", *KEYS).join(maps, on=KEYS).sort("cluster", "rank", "query")
    attention = pl.Series("attention", unpacked(drawn["map"].to_list()), dtype=pl.Array(pl.Float32, 48))
    return {
        "prototypes": nearest.select(*PROTOTYPES).cast(PROTOTYPES),  # type: ignore[arg-type]
        "maps": drawn.with_columns(attention).select(*MAPS).cast(MAPS),  # type: ignore[arg-type]
        **found,
    }
