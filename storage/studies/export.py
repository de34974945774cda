"""A study's features as one tidy file: one row a value, with the count that weights it and its unit."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from indexscope.errors import IndexscopeError
from indexscope.foreign import reading, words
from indexscope.plugins import PER_HEAD, PER_QUERY
from indexscope.storage.store import parquet
from indexscope.storage.store.files import TEMPORARY
from indexscope.storage.store.keys import StepKey, key_at
from indexscope.storage.store.records import table_file
from indexscope.storage.store.store import JSON, Store
from indexscope.storage.studies.records import StudyRecord

#: What tells rows apart, in the order of the file's columns.
PLACE: dict[str, type[pl.DataType]] = {
    "sample": pl.Int32,
    "layer": pl.Int16,
    "head": pl.Int16,
    "group": pl.String,
    "bucket": pl.Int8,
    "distance": pl.Int8,
    "relative": pl.Int8,
}
SCHEMA: dict[str, type[pl.DataType]] = {
    "model": pl.String,
    "table": pl.String,
    "document": pl.String,
    **PLACE,
    "metric": pl.String,
    "value": pl.Float64,
    "weight": pl.Int64,
    "unit": pl.String,
    "leaks": pl.Boolean,
}


#: Inputs that features and own features of one model share, and no other model's have.
_SHARED = ("checkpoint", "dataset", "device", "shard_size")
Write = Callable[[pl.DataFrame], None]


@dataclass(frozen=True)
class Measure:
    """A column of a feature table that is exported.

    Attributes:
        table: The feature table.
        column: The column; it is the row's ``metric``.
        unit: Its unit.
        weight: Column that counts what the value is the mean of; "" where the value is a count, a sum or an extreme.
    """

    table: str
    column: str
    unit: str
    weight: str = ""


@dataclass(frozen=True)
class Exported:
    """What was written: rows, bytes, and for each model how many shards of how many."""

    rows: int
    bytes: int
    models: Mapping[str, tuple[int, int]]


def plugin_features(store: Store, record: StudyRecord) -> tuple[dict[str, str], tuple[Measure, ...]]:
    """A study's own features of each model, as their Parquet columns describe them; none of the study's code is run.

    Returns:
        Path of the step by model, and its columns by table and name. Both are empty for a study without.

    Raises:
        IndexscopeError: A newer Indexscope wrote a step.
    """
    made = {path: _source(store, key_at(path)) for path in record.steps if path.startswith("plugin_features/")}
    found: dict[str, str] = {}
    for model, path in record.models.items() if made else ():
        source = _source(store, key_at(path))
        for own, of in made.items():
            if source is not None and of == source:
                found[model] = own
    measures = {measure for path in set(found.values()) for measure in _measures(store, key_at(path))}
    return found, tuple(sorted(measures, key=lambda measure: (measure.table, measure.column)))


def _source(store: Store, key: StepKey) -> tuple[JSON, ...] | None:
    manifest = store.manifest(key)
    return None if manifest is None else tuple(manifest.inputs.get(name) for name in _SHARED)


def _measures(store: Store, key: StepKey) -> list[Measure]:
    """The columns of a step's tables that a column of counts belongs to; every unit has the same."""
    records = (store.record(key, unit) for unit in store.units(key))
    record = next((record for record in records if record is not None), None)
    if record is None:
        return []
    found = []
    for table in record.tables:
        units = parquet.units(store.folder.child(key.path).read(table_file(table, record.unit)))
        own = [name for name in units if f"{name}_queries" in units]
        found += [Measure(table, name, units[name], f"{name}_queries") for name in own]
    return found


def export(
    store: Store,
    models: Mapping[str, str],
    target: Path,
    measures: Sequence[Measure],
    *,
    own: Mapping[str, str] | None = None,
    leaks: Mapping[str, bool] | None = None,
    partial: bool = False,
    overwrite: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Exported:
    """Write features as one Parquet or CSV file, shard by shard, so that memory holds one shard at a time.

    Rows are ordered by model as in the study, shard, table, metric, and then as in the store. Values that are not
    defined have no row.

    Args:
        store: The store.
        models: Path of the features of each model, by name.
        target: The file, which appears whole or not at all; its ending, .parquet or .csv, says the format.
        measures: What to export.
        own: Path of the study's own features of each model that has some, by name.
        leaks: Whether each model failed the causality audit, by name; null in the file where that is not known.
        partial: Accept features of which some shards are missing.
        overwrite: Replace a file that is there.
        progress: Called after every shard.

    Raises:
        IndexscopeError: The ending is unknown, the file exists or cannot be written, shards are missing, a shard is
            damaged, or nothing was found.
    """
    if target.suffix not in WRITERS:
        raise IndexscopeError(target, "is neither .parquet nor .csv", "end the file's name in one of them")
    with reading(target, "give another place", "cannot be written"):
        there = target.exists()
    if there and not overwrite:
        raise IndexscopeError(target, "exists already", "give another name, or --force to overwrite it")
    shards = {model: _shards(store, model, path, partial) for model, path in models.items()}
    wanted = {measure.table for measure in measures}
    keys = {model: [key_at(path)] for model, path in models.items()}
    for model, path in (own or {}).items() if wanted & {PER_HEAD, PER_QUERY} else ():
        _shards(store, f"{model}, plugin_features", path, partial)
        keys[model].append(key_at(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}{TEMPORARY}")
    rows = 0
    try:
        with WRITERS[target.suffix](temporary) as write:
            for model, steps in keys.items():
                for unit in shards[model][0]:
                    for frame in _tidy(store, steps, unit, model, measures):
                        write(frame.with_columns(pl.lit((leaks or {}).get(model), dtype=pl.Boolean).alias("leaks")))
                        rows += frame.height
                    progress()
        if not rows:
            raise IndexscopeError(store.url, "has no value of what was asked for", "choose other tables or metrics")
        size = temporary.stat().st_size
        os.replace(temporary, target)
    except OSError as error:
        raise IndexscopeError(target, f"cannot be written ({words(error)})", "give another place") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return Exported(rows, size, {model: (len(found), expected) for model, (found, expected) in shards.items()})


@contextlib.contextmanager
def _csv(file: Path) -> Iterator[Write]:
    with file.open("wb") as target:
        pl.DataFrame(schema=SCHEMA).write_csv(target)
        yield lambda frame: frame.write_csv(target, include_header=False)
        target.flush()
        os.fsync(target.fileno())


@contextlib.contextmanager
def _parquet(file: Path) -> Iterator[Write]:
    schema = pl.DataFrame(schema=SCHEMA).to_arrow().schema
    with file.open("wb") as target:
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            yield lambda frame: writer.write_table(frame.to_arrow().cast(schema))
        target.flush()
        os.fsync(target.fileno())


WRITERS = {".csv": _csv, ".parquet": _parquet}


def _shards(store: Store, model: str, path: str, partial: bool) -> tuple[list[str], int]:
    """The committed shards of a model, and how many there should be."""
    key = key_at(path)
    manifest = store.manifest(key)
    units = store.units(key) if manifest is None or manifest.units is None else manifest.units
    found = [unit for unit, status in store.unit_statuses(key, units).items() if status == "committed"]
    if not found or (len(found) < len(units) and not partial):
        reason = f"has {len(found)} of {len(units)} shards in the store" if units else "has no shard in the store"
        remedy = "run the study to its end" + (", or give --partial to export what is there" if found else "")
        raise IndexscopeError(model, reason, remedy)
    return found, len(units)


def _tidy(
    store: Store, keys: Sequence[StepKey], unit: str, model: str, measures: Sequence[Measure]
) -> Iterator[pl.DataFrame]:
    """One shard of a model, from the step of its features and that of the study's own."""
    records = [(key, store.record(key, unit)) for key in keys]
    held = {table: key for key, record in records if record is not None for table in record.tables}
    names = store.read(keys[0], "samples", [unit]).select("sample", pl.col("name").alias("document"))
    for table in dict.fromkeys(measure.table for measure in measures):
        if (key := held.get(table)) is None:
            continue  # a dense model has no indexer
        frame = store.read(key, table, [unit]).join(names, on="sample", how="left", maintain_order="left")
        parts = [
            _rows(frame, model, measure)
            for measure in measures
            if measure.table == table and measure.column in frame.columns
        ]
        if parts:
            yield pl.concat(parts)


def _rows(frame: pl.DataFrame, model: str, measure: Measure) -> pl.DataFrame:
    constants = {"model": model, "table": measure.table, "metric": measure.column, "unit": measure.unit}
    columns: dict[str, pl.Expr] = {name: pl.lit(text) for name, text in constants.items()}
    columns |= {name: pl.col(name) if name in frame.columns else pl.lit(None) for name in (*PLACE, "document")}
    columns["leaks"] = pl.lit(None)
    columns |= {"value": pl.col(measure.column), "weight": pl.col(measure.weight) if measure.weight else pl.lit(None)}
    ordered = [columns[name].cast(kind).alias(name) for name, kind in SCHEMA.items()]
    return frame.filter(pl.col(measure.column).is_not_null()).select(ordered)
