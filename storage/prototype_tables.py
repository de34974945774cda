"""The tables of attention maps to look at."""

from __future__ import annotations

from storage.columns import Column, Table, of, table

_MAP: tuple[Column, ...] = of("tokens", length="Length of the sample.")
_PLACE: tuple[Column, ...] = of(
    sample="Index of the sample in the dataset, from 0.", layer="Index of the layer.", head="Index of the head."
)
_EXAMPLE: tuple[Column, ...] = of(
    example="Of all kept maps the one whose selection loses most attention, the median one, or the least."
)

PROTOTYPES: dict[tuple[str, str], Table] = {
    ("probes", "attention_maps"): table(
        "sample, layer, head, query",
        "sample layer head query",
        _MAP,
        of(
            map="48 little-endian float16 numbers: dense attention on 48 equal parts of the sequence.",
            kept="The same of the selected keys alone; null where the selection leaves nothing out or is not known.",
        ),
    ),
    ("analyses/prototypes", "prototypes"): table(
        "cluster, map",
        "cluster rank",
        of(rank="0 for the map nearest to the cluster's centre.", pattern_type="The map's pattern type by rules."),
        _PLACE,
        of("whitened distance", distance="Distance of the map from the centre of its cluster."),
    ),
    ("analyses/prototypes", "maps"): table(
        "cluster, map, query",
        "cluster rank query",
        of(rank="0 for the map nearest to the cluster's centre."),
        _MAP,
        of("share", attention="Dense attention on 48 equal parts of the sequence."),
    ),
    ("analyses/prototypes", "examples"): table(
        "example",
        "example",
        _EXAMPLE,
        _PLACE,
        of(
            "share",
            lost="Dense attention on keys that are not selected, mean over the map's probed queries in effect.",
            recall="1 - lost: attention that the selection keeps.",
        ),
        of("maps", of_maps="Maps that it was chosen from."),
        ordered=False,
    ),
    ("analyses/prototypes", "example_maps"): table(
        "example, query",
        "example query",
        _EXAMPLE,
        _MAP,
        of(in_effect="Whether the selection leaves a key out."),
        of(
            "share",
            dense="Dense attention on 48 equal parts of the sequence.",
            sparse="The same scores over the selected keys alone: their dense attention, scaled to sum to 1.",
        ),
        ordered=False,
    ),
}
