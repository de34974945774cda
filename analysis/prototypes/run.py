"""Real attention maps to look at: the nearest to each cluster's centre, and examples of what selections lose."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from indexscope.analysis.metrics.stream import Sharded
from indexscope.analysis.probe.maps import unpacked
from indexscope.analysis.prototypes import examples as chosen
from indexscope.analysis.prototypes.tables import MAPS, PROTOTYPES, RESULTS
from indexscope.analysis.settings import PrototypeSettings
from indexscope.columns import empty

KEYS = ("sample", "layer", "head")


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
        return empty(RESULTS)
    maps = features["attention_maps"]
    examples, example_maps = chosen.examples(maps)
    found = {"examples": examples, "example_maps": example_maps}
    if maps.is_empty() or "clustering.assignments" not in features:
        return empty(RESULTS) | found
    kept = features["clustering.assignments"].join(maps.select(KEYS).unique(), on=KEYS, how="semi")
    nearest = (
        kept.sort("cluster", "distance", *KEYS)
        .with_columns(rank=pl.int_range(pl.len()).over("cluster").cast(pl.Int16))
        .filter(pl.col("rank") < settings.of_each)
    )
    drawn = nearest.select("cluster", "rank", *KEYS).join(maps, on=KEYS).sort("cluster", "rank", "query")
    attention = pl.Series("attention", unpacked(drawn["map"].to_list()), dtype=MAPS.schema["attention"])
    return {
        "prototypes": PROTOTYPES.shaped(nearest),
        "maps": MAPS.shaped(drawn.with_columns(attention)),
        **found,
    }
