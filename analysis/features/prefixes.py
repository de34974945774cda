"""Feature tables of the first tokens of sequences, made while the whole of them runs.

Nothing that a causal model computes at a position depends on what follows, so that what was added up once the first L
queries have passed is what a run over the first L tokens alone would have come to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO

import polars as pl

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.model import CapturedModel
from indexscope.analysis.capture.source import Source
from indexscope.analysis.features.columns import AT_LENGTHS, at_length
from indexscope.analysis.features.layer import LayerFeatures
from indexscope.analysis.features.sampling import sampled_apart
from indexscope.analysis.features.tables import layer_tables
from indexscope.analysis.rope import lengths_apart


def apart(source: Source, lengths: Sequence[int], longest: int, every: int) -> tuple[int, ...]:
    """The lengths whose numbers a pass over longer sequences does not hold.

    Args:
        source: The model. Of code outside transformers nobody knows what its positions depend on.
        lengths: Shorter than the sequences.
        longest: Tokens of the sequences.
        every: As `ExtractSettings.query_every`: very short sequences have other blocks measured than long ones.
    """
    if not isinstance(source, CapturedModel):
        return tuple(lengths)
    scaled, sampled = lengths_apart(source.scalings, lengths, longest), sampled_apart(lengths, longest, every)
    return tuple(length for length in lengths if length in scaled or length in sampled)


def cut(start: int, queries: int, ends: Sequence[int]) -> list[tuple[int, int]]:
    """First and last + 1 of the pieces of a chunk, within it, so that some pieces end where prefixes do.

    >>> cut(256, 256, [100, 300, 512]), cut(0, 100, [100, 300])
    ([(0, 44), (44, 256)], [(0, 100)])
    """
    inside = [end - start for end in ends if start < end < start + queries]
    return list(zip([0, *inside], [*inside, queries], strict=True))


class Prefixes:
    """Takes the tables of a batch's prefixes, layer by layer.

    Args:
        index: Sample ids of the batch.
        lengths: Tokens of the prefixes, ascending and shorter than the sequences.
        sink_keys: As the settings have it.
    """

    def __init__(self, index: list[int], lengths: Sequence[int], sink_keys: int) -> None:
        self.lengths = tuple(lengths)
        self._index, self._sink_keys = index, sink_keys
        self._tables: dict[str, list[pl.DataFrame]] = {}

    def parts(self, chunk: AttentionChunk) -> Iterator[AttentionChunk]:
        """The chunk in parts that end where a prefix does."""
        queries = chunk.query.shape[2]
        pieces = cut(chunk.start, queries, self.lengths)
        if len(pieces) == 1:
            yield chunk
            return
        for first, last in pieces:
            yield chunk.part(first, last)

    def reached(self, layer: int, features: LayerFeatures, end: int) -> None:
        """Take what a layer has come to at the end of a part."""
        if end not in self.lengths:
            return
        for name, table in layer_tables(self._index, {layer: features.up_to(end)}, self._sink_keys).items():
            self.take(name, end, table)

    def take(self, name: str, length: int, table: pl.DataFrame) -> None:
        """Take rows of one length."""
        self._tables.setdefault(at_length(name), []).append(of_length(name, length, table))

    def state(self) -> dict[str, list[bytes]]:
        """What was taken so far, as Arrow files."""
        return {name: [table.write_ipc(None).getvalue() for table in parts] for name, parts in self._tables.items()}

    def restore(self, state: Mapping[str, Sequence[bytes]]) -> None:
        """Take up what another one took of the same samples."""
        self._tables = {name: [pl.read_ipc(BytesIO(table)) for table in parts] for name, parts in state.items()}

    def tables(self) -> dict[str, pl.DataFrame]:
        """All rows by table."""
        return {name: pl.concat(parts).sort(AT_LENGTHS[name].key) for name, parts in self._tables.items()}


def of_length(name: str, length: int, table: pl.DataFrame) -> pl.DataFrame:
    """Rows of a feature table as those of the first so many tokens."""
    declared = AT_LENGTHS[at_length(name)]
    return table.with_columns(length=pl.lit(length, pl.Int32)).select(
        *(column for column in declared.schema if column in (*table.columns, "length"))
    )


def complete(parts: Mapping[str, list[pl.DataFrame]]) -> dict[str, pl.DataFrame]:
    """Tables of prefixes for every feature table that there is, empty where no sample is long enough."""
    found = {}
    for name in parts:
        if at_length(name) in AT_LENGTHS and at_length(name) not in parts:
            found[at_length(name)] = AT_LENGTHS[at_length(name)].empty()
    return found


def merged(
    tables: Mapping[str, pl.DataFrame], own: Mapping[int, Mapping[str, pl.DataFrame]]
) -> dict[str, pl.DataFrame]:
    """Tables of prefixes, with those that runs of their own have given.

    Args:
        tables: Of a batch, prefixes of the same run among them.
        own: The tables of such runs, by their length.
    """
    found: dict[str, list[pl.DataFrame]] = {}
    for name, table in tables.items():
        if name in AT_LENGTHS:
            found.setdefault(name, []).append(table)
    for length, parts in own.items():
        for name, table in parts.items():
            if at_length(name) in AT_LENGTHS:
                found.setdefault(at_length(name), []).append(of_length(name, length, table))
    return {name: pl.concat(parts).sort(AT_LENGTHS[name].key) for name, parts in found.items()}
