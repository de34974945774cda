"""The tables of a shard, from those of its samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from indexscope.analysis.features.attempt import Tables
from indexscope.analysis.features.intake import TokenSequence
from indexscope.analysis.parity.records import Dump, Dumped
from indexscope.analysis.parity.sums import SampleSums
from indexscope.analysis.parity.tables import MATCHED, ROWS


def joined(samples: Sequence[TokenSequence], dump: Dump, parts: Mapping[str, Sequence[pl.DataFrame]]) -> Tables:
    """The tables of all samples, with those that have no record."""
    tables = {name: pl.concat([table.empty(), *parts.get(name, ())]) for name, table in ROWS.items()}
    absent = [matched(sample, None, 0, {}) for sample in samples if sample.index not in dump]
    tables["matched"] = pl.concat([tables["matched"], *absent])
    return {name: table.sort(ROWS[name].key) for name, table in tables.items()}


def matched(
    sample: TokenSequence, record: str | None, compared: int, parting: Mapping[str, int | None]
) -> pl.DataFrame:
    """A sample's row of the table ``matched``.

    Args:
        sample: The sample.
        record: Name of its record; None without one.
        compared: Queries that were compared.
        parting: Where the two part, as `indexscope.analysis.parity.sums.SampleSums.parting` gives it.
    """
    row = {"sample": sample.index, "name": sample.name, "record": record, "tokens": len(sample.input_ids)}
    return pl.DataFrame(
        [{**dict.fromkeys(MATCHED.schema), **row, "compared": compared, **parting}], schema=MATCHED.schema
    )


def tables_of(sample: TokenSequence, record: Dumped, sums: SampleSums, compared: int) -> Tables:
    """The tables of one sample."""
    return {
        "counted": sums.counted(sample.index),
        "distances": sums.distances(sample.index),
        "matched": matched(sample, record.name, compared, sums.parting()),
    }
