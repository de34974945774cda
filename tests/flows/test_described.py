"""Every column of every table that a study writes is described in its Parquet file."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from indexscope.storage.store.parquet import decode, encode
from indexscope.tasks.common.tables import declared

#: Tables that only models under a fitted indexer have: tests/flows/test_laid_over.py.
LEARNED = {("profiles", "fit_curves"), ("profiles", "fit_held_out")}


def of_any_study() -> set[tuple[str, str]]:
    """Kinds and tables that every study of checkpoints has."""
    # Metrics of a study's own: tests/flows/test_plugins.py; selections from elsewhere: tests/flows/test_selections.py;
    # data with answers: tests/flows/test_evidence.py; series: tests/flows/test_series.py;
    # lengths: tests/flows/test_study_lengths.py.
    elsewhere = ("analyses/plugins", "parity_rows", "parity", "analyses/evidence", "evidence_changes", "series")
    answers = {("features", name) for name in ("answers", "evidence", "answer_text")}
    lengths = {known for known in declared() if known[1].endswith("_at_length")}
    return {known for known in declared() if known[0] not in elsewhere} - LEARNED - answers - lengths


def described_tables(store: Path) -> set[tuple[str, str]]:
    """Kinds and tables of a store, each file checked against its description."""
    seen = set()
    for file in store.rglob("*.parquet"):
        kind, table = str(file.relative_to(store).parent.parent.parent), file.parent.name
        if kind == "plugin_features":  # described by the study's own files
            continue
        known = declared().get((kind, table))
        assert known is not None, f"{kind}/{table} is not declared"
        # Types, as files give them back.
        assert pl.read_parquet(file).schema == decode(encode(known.empty(), known), table).schema, f"{kind}/{table}"
        seen.add((kind, table))
        for field in pq.read_schema(file):
            column = known.column(field.name)
            assert column is not None, f"{kind}/{table}: {field.name} is not described"
            found = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
            assert {key: found[key] for key in found if not key.startswith("PARQUET:")} == column.metadata
        if known.key:
            key = pl.read_parquet(file).select(known.key)
            assert not key.is_duplicated().any(), f"{kind}/{table}"
            assert not known.ordered or key.equals(key.sort(known.key)), f"{kind}/{table}"
    return seen


def test_every_column_of_a_study_is_described_and_rows_are_told_apart(done: Path) -> None:
    assert described_tables(done / ".indexscope") == of_any_study()
