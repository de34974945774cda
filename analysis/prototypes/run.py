"""Real attention maps to look at: the nearest to each cluster's centre, and examples of what selections lose."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.metrics.stream import Sharded
from indexscope.analysis.prototypes import PrototypeSettings
from indexscope.analysis.prototypes.maps import BINS, unpacked
from indexscope.analysis.prototypes.tables import EXAMPLE_MAPS, EXAMPLES, MAPS, PROTOTYPES, RESULTS
from indexscope.columns import empty

#: Raise it when any number of the analysis would change.
VERSION = 3

KEYS = ("sample", "layer", "head")


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: PrototypeSettings) -> dict[str, pl.DataFrame]:
    """The real maps nearest to each cluster's centre, among those that the close-up kept (heads of every sample).

    Args:
        features: The close-up's attention_maps and clustering.assignments; without either there are no prototypes, and
            without the first there are no examples.
        settings: How many of each cluster.

    Returns:
        prototypes: cluster, rank (0 the nearest), sample, layer, head, pattern_type, distance (to the centre, in the
        space of the clustering). maps: cluster, rank, length, query, attention on 48 equal parts of the
        sequence. examples and example_maps: see `examples`.
    """
    if not isinstance(features, Mapping) or "attention_maps" not in features:
        return empty(RESULTS)
    maps = features["attention_maps"]
    found = dict(zip(("examples", "example_maps"), examples(maps), strict=True))
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


def examples(maps: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Three maps: the one whose selection loses most attention, the median one, and the one that loses least.

    What is lost is 1 - sum of p[t, s] over the selected keys s, mean over the map's sampled queries with something left
    out. The sparse attention shown beside it is p on the selected keys, scaled to sum to 1: softmax over the selected
    scores. Both come from one forward pass of the dense model, so no drift of hidden states is in the difference.

    Args:
        maps: The close-up's ``attention_maps``.

    Returns:
        example (most, middle, least), sample, layer, head, lost, recall, of_maps; and example, length, query,
        in_effect, dense, sparse on equal parts of the sequence. Fewer rows where there are fewer than three maps in
        effect, none where there is none.
    """
    known = maps.filter(pl.col("kept").is_not_null())
    kept = unpacked(known["kept"].to_list()).sum(axis=1)
    total = unpacked(known["map"].to_list()).sum(axis=1)  # 1, but for the rounding to float16
    lost = known.select(KEYS).with_columns(lost=pl.Series(1 - np.minimum(kept / total, 1), dtype=pl.Float64))
    ranked = lost.group_by(KEYS).agg(pl.col("lost").mean()).sort("lost", *KEYS, descending=[True, False, False, False])
    places = {"most": 0, "middle": ranked.height // 2, "least": ranked.height - 1}
    chosen: dict[int, str] = {}
    for name, place in places.items():
        if 0 <= place < ranked.height:
            chosen.setdefault(place, name)
    found = ranked[list(chosen)].with_columns(
        recall=1 - pl.col("lost"), example=pl.Series(list(chosen.values()), dtype=pl.String), of_maps=ranked.height
    )
    own = (
        found.select("example", *KEYS)
        .join(maps, on=KEYS, how="left", maintain_order="left")
        .sort(pl.col("example").replace_strict({"most": 0, "middle": 1, "least": 2}, return_dtype=pl.Int8), "query")
    )
    dense = unpacked(own["map"].to_list())
    shown = own.with_columns(
        in_effect=pl.col("kept").is_not_null(),
        dense=pl.Series(dense, dtype=pl.Array(pl.Float32, BINS)),
        sparse=pl.Series(_sparse(dense, own["kept"].to_list()), dtype=pl.Array(pl.Float32, BINS)),
    )
    return (
        EXAMPLES.shaped(found),
        EXAMPLE_MAPS.shaped(shown),
    )


def _sparse(dense: NDArray[np.float64], kept: list[bytes | None]) -> NDArray[np.float64]:
    """Attention over the selected keys alone; the dense one where nothing is left out."""
    sparse = dense.copy()
    known = np.array([one is not None for one in kept], dtype=bool)
    own = unpacked([one for one in kept if one is not None])
    total = own.sum(axis=1, keepdims=True)
    # A head all of whose attention was left out spreads over keys that float16 no longer holds.
    sparse[known] = np.divide(own, total, out=np.full_like(own, np.nan), where=total > 0)
    return sparse
