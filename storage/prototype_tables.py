"""The tables of attention maps to look at."""

from __future__ import annotations

from storage.columns import Column, Table, of, table

_MAP: tuple[Column, ...] = of("tokens", length="Length of the sample.")

PROTOTYPES: dict[tuple[str, str], Table] = {
    ("probes", "attention_maps"): table(
        "sample, layer, head, query",
        "sample layer head query",
        _MAP,
        of(map="48 little-endian float16 numbers: dense attention on 48 equal parts of the sequence."),
    ),
    ("analyses/prototypes", "prototypes"): table(
        "cluster, map",
        "cluster rank",
        of(rank="0 for the map nearest to the cluster's centre.", pattern_type="The map's pattern type by rules."),
        of(
            sample="Index of the sample in the dataset, from 0.", layer="Index of the layer.", head="Index of the head."
        ),
        of("whitened distance", distance="Distance of the map from the centre of its cluster."),
    ),
    ("analyses/prototypes", "maps"): table(
        "cluster, map, query",
        "cluster rank query",
        of(rank="0 for the map nearest to the cluster's centre."),
        _MAP,
        of("share", attention="Dense attention on 48 equal parts of the sequence."),
    ),
}
