"""The features of the first tokens of samples, read as the features of samples that are no longer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from indexscope.analysis.features.columns import at_length
from indexscope.analysis.metrics.stream import Sharded, shards

Features = Mapping[str, pl.DataFrame] | Sharded


class AtLength:
    """The features of the first so many tokens of every sample that has them; a `Sharded`.

    Args:
        features: Feature tables.
        length: Tokens.
        whole: Whether no sample is longer, so that the samples' own tables are those of the length.
    """

    def __init__(self, features: Features, length: int, whole: bool) -> None:
        self._features, self._length, self._whole = features, length, whole

    def __contains__(self, table: object) -> bool:
        """Whether there is such a table; nothing is read."""
        return isinstance(table, str) and self._name(table) in self._features

    def shards(self, tables: Sequence[str]) -> Iterator[Mapping[str, pl.DataFrame]]:
        """The named tables of each shard, those that it has."""
        stored = {self._name(table): table for table in tables}
        wanted = dict.fromkeys([*stored, "samples"] if self._whole else stored)
        for found in shards(self._features, list(wanted)):
            kept = found["samples"].filter(pl.col("tokens") == self._length) if self._whole else None
            yield {table: self._own(found[name], kept) for name, table in stored.items() if name in found}

    def _name(self, table: str) -> str:
        return table if self._whole else at_length(table)

    def _own(self, frame: pl.DataFrame, kept: pl.DataFrame | None) -> pl.DataFrame:
        if kept is not None:
            return frame.join(kept.select("sample"), on="sample", how="semi", maintain_order="left")
        return frame.filter(pl.col("length") == self._length).drop("length")


def at_lengths(features: Features) -> dict[int, AtLength]:
    """The features at each length that they were made for, ascending; nothing where only whole samples were measured.

    A sample that is shorter than a length has no part in it.
    """
    shorter, longest, listed = set[int](), 0, at_length("samples")
    if listed not in features:
        return {}
    for found in shards(features, [listed, "samples"]):
        if listed in found:
            shorter |= set(found[listed]["length"].unique().to_list())
        if "samples" in found and found["samples"].height:
            longest = max(longest, int(found["samples"]["tokens"].max()))  # type: ignore[arg-type]
    lengths = sorted({*shorter, longest}) if shorter else []
    return {length: AtLength(features, length, length == longest) for length in lengths}
