"""What there is to look at: samples, lengths, and where the indexer comes into effect; the first of two passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from indexscope.analysis.metrics.blocks import sample_blocks
from indexscope.analysis.metrics.stream import Sharded


@dataclass
class Extent:
    """The size of the features.

    Attributes:
        samples: Samples.
        longest: Tokens of the longest sample.
        first: Layer to the first position bucket in which its indexer leaves something out; None for any layer.
    """

    samples: int = 0
    longest: int = 0
    first: dict[int | None, int] = field(default_factory=dict)

    @property
    def buckets(self) -> int:
        """Position buckets that count: those of which the longest sample holds at least half."""
        last = self.longest.bit_length() - 1
        half = 2**last + 2**last // 2 - 1
        return int(max(1, last + (self.longest >= half)))

    def length(self, bucket: int) -> int:
        """The context length that ends with a bucket.

        >>> Extent(longest=512).buckets, Extent(longest=512).length(8), Extent(longest=400).length(8)
        (9, 511, 400)
        """
        return int(min(2 ** (bucket + 1) - 1, self.longest))


def extent(features: Mapping[str, pl.DataFrame] | Sharded) -> Extent:
    """Read the tables ``samples``, ``tokens`` and ``indexer`` once."""
    found = Extent()
    for block in sample_blocks(features, ["samples", "tokens", "indexer"]):
        found.samples += pl.concat([frame["sample"] for frame in block.values()]).n_unique()
        for table, column in (("samples", "tokens"), ("tokens", "tokens")):
            if table in block:
                # Of a sample of n tokens, n - 1 are predicted.
                lengths = block[table].group_by("sample").agg(pl.col(column).sum())[column]
                found.longest = max(found.longest, int(lengths.max()) + (table == "tokens"))  # type: ignore[arg-type]
        if "indexer" in block:
            reached = block["indexer"].filter(pl.col("queries_in_effect") > 0).group_by("layer").agg(pl.min("bucket"))
            for layer, bucket in reached.iter_rows():
                for own in (None, int(layer)):
                    found.first[own] = min(found.first.get(own, 127), int(bucket))
    return found
