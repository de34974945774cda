"""The tables of attention maps to look at."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.prototypes.maps import BINS, LENGTH
from indexscope.columns import Column, of, places, table_of

_PLACE: tuple[Column, ...] = (
    *places("sample"),
    *of(pl.Int16, layer="Index of the layer.", head="Index of the head."),
)
_RANK = of(pl.Int16, rank="0 for the map nearest to the cluster's centre.")
_EXAMPLE = of(
    pl.String, example="Of all kept maps the one whose selection loses most attention, the median one, or the least."
)
PROTOTYPES = table_of(
    "cluster, map",
    "cluster rank",
    _RANK,
    _PLACE,
    of(pl.String, pattern_type="The map's pattern type by rules."),
    of(pl.Float64, "distance", distance="Distance of the map from the centre of its cluster, features from 0 to 1."),
)
MAPS = table_of(
    "cluster, map, query",
    "cluster rank query",
    _RANK,
    LENGTH,
    places("query"),
    of(pl.Array(pl.Float32, BINS), "share", attention="Dense attention on 48 equal parts of the sequence."),
)
EXAMPLES = table_of(
    "example",
    "example",
    _EXAMPLE,
    _PLACE,
    of(
        pl.Float64,
        "share",
        lost="Dense attention on keys that are not selected, mean over the map's sampled queries in effect.",
        recall="1 - lost: attention that the selection keeps.",
    ),
    of(pl.Int32, "maps", of_maps="Maps that it was chosen from."),
    ordered=False,
)
EXAMPLE_MAPS = table_of(
    "example, query",
    "example query",
    _EXAMPLE,
    LENGTH,
    places("query"),
    of(pl.Boolean, in_effect="Whether the selection leaves a key out."),
    of(
        pl.Array(pl.Float32, BINS),
        "share",
        dense="Dense attention on 48 equal parts of the sequence.",
        sparse="The same scores over the selected keys alone: their dense attention, scaled to sum to 1.",
    ),
    ordered=False,
)
RESULTS = {"prototypes": PROTOTYPES, "maps": MAPS, "examples": EXAMPLES, "example_maps": EXAMPLE_MAPS}
