"""Whether frames are what their tables are declared to be."""

from __future__ import annotations

import polars as pl

from indexscope.columns import Table


def check(frame: pl.DataFrame, table: Table) -> None:
    """Columns in their order and types, and a key that tells rows apart and orders those that say so."""
    assert frame.schema == table.schema
    keys = frame.select(table.key)
    assert not table.key or not keys.is_duplicated().any()
    assert not table.ordered or keys.equals(keys.sort(table.key, nulls_last=False))
