"""Recall of single queries: the worst of each sample, and quantiles over all queries by layer and position."""

from __future__ import annotations

from collections import defaultdict

import polars as pl

from indexscope.analysis.distribution.digests import Digest, union
from indexscope.analysis.distribution.tables import LOWEST, RECALLS
from indexscope.analysis.metrics.grids import grids
from indexscope.analysis.metrics.metric import Ratio
from indexscope.analysis.metrics.sums import Sums, TableSums

QUANTILES = (0.0, 0.01, 0.1, 0.5)
_WORST = 0.01
_RULES = {"lowest_recall": Ratio("recalls", "lowest", ""), "recall_p01": Ratio("recalls", "p01", "")}


class Recalls:
    """What is kept of the feature table ``recalls``: digests by layer and bucket, and the worst of each sample."""

    def __init__(self) -> None:
        self._digests: dict[tuple[int, int], Digest] = defaultdict(Digest)
        self._lowest: list[pl.DataFrame] = []
        self._worst = TableSums(_RULES)

    def add(self, frame: pl.DataFrame | None) -> None:
        """Take in more samples."""
        if frame is None or frame.is_empty():
            return
        ordered = frame.sort("sample", "layer", "bucket")
        self._lowest.append(ordered.drop("sketch"))
        worst = []
        for own in ordered.partition_by("sample", "layer", maintain_order=True):
            sample, layer = int(own["sample"][0]), int(own["layer"][0])
            parts = own["sketch"].to_list()
            for bucket, serialised in zip(own["bucket"].to_list(), parts, strict=True):
                self._digests[layer, bucket].add(serialised)
            p01 = union(map(Digest.read, parts)).get_quantile(_WORST)
            worst.append((sample, layer, own["lowest"].min(), p01))
        rows = pl.DataFrame(worst, schema=["sample", "layer", "lowest", "p01"], orient="row")
        for (grid,) in grids(rows, _RULES, [""]):
            self._worst.add(grid, layered=True)

    def sums(self) -> Sums:
        """lowest_recall and recall_p01 by sample and layer; every sample and layer with a query in effect counts 1."""
        return self._worst.sums()

    def quantiles(self) -> pl.DataFrame:
        """Quantiles over the queries of all samples: layer and bucket (null for all), quantile, value, count."""
        groups: dict[tuple[int | None, int | None], list[Digest]] = defaultdict(list)
        for (layer, bucket), digest in sorted(self._digests.items()):
            for group in ((None, None), (None, bucket), (layer, None), (layer, bucket)):
                groups[group].append(digest)
        rows = []
        for place, digests in groups.items():
            merged = union(digest.merged() for digest in digests)
            count = merged.get_total_weight()
            rows += [
                (*place, level, merged.get_quantile(level) if level else merged.get_min_value(), count)
                for level in QUANTILES
            ]
        return pl.DataFrame(rows, schema=RECALLS.schema, orient="row").sort(*RECALLS.key, nulls_last=False)

    def lowest(self) -> pl.DataFrame:
        """The query with the smallest recall, of all and in each layer: layer, value, sample, position."""
        if not self._lowest:
            return LOWEST.empty()
        rows = pl.concat(self._lowest).sort("lowest", "sample", "layer", "position")
        overall = rows.head(1).with_columns(layer=pl.lit(None, dtype=rows.schema["layer"]))
        found = pl.concat([overall, rows.unique("layer", keep="first", maintain_order=True).sort("layer")])
        return LOWEST.shaped(found.rename({"lowest": "value"}))
