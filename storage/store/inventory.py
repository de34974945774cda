"""What a store holds, for people: one row a step."""

from __future__ import annotations

import polars as pl

from indexscope.errors import IndexscopeError
from indexscope.storage.store.files import Folder
from indexscope.storage.store.records import parse_manifest, parse_marker

COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "kind": pl.String,
    "digest": pl.String,
    "label": pl.String,
    "units": pl.Int64,
    "expected": pl.Int64,
    "rows": pl.Int64,
    "bytes": pl.Int64,
    "created": pl.Datetime("us", "UTC"),
    "complete": pl.Boolean,
    "state": pl.String,
}
COMMITS = "_commits/"


def inventory(folder: Folder) -> pl.DataFrame:
    """List the steps of a store without reading any table.

    Returns:
        Columns kind, digest, label, units (committed), expected (null if unknown), rows, bytes, created (when the
        manifest was written; null where the filesystem does not say), complete (null if unknown) and state:
        "complete", "partial", "open" (nobody has said how many units there will be), "damaged" (a unit's files are not
        as committed, or the manifest is torn) or "newer" (written by a newer Indexscope; not looked into).
    """
    sizes = folder.sizes()
    steps = sorted(name.removesuffix("/manifest.json") for name in sizes if name.count("/") > 1 and _is_manifest(name))
    rows = [_row(folder.child(step), step, _below(sizes, step)) for step in steps]
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def _row(step: Folder, path: str, sizes: dict[str, int]) -> tuple[object, ...]:
    kind, _, digest = path.rpartition("/")
    created = step.modified("manifest.json")
    try:
        manifest = parse_manifest(step.read("manifest.json"), step.url)
        units = _units(sizes)
        markers = step.read_many([f"{COMMITS}{unit}.json" for unit in units])
        found = {
            unit: None if data is None else parse_marker(data, path, unit)
            for unit, data in zip(units, markers, strict=True)
        }
    except IndexscopeError:
        return (kind, digest, None, None, None, None, None, created, None, "newer")
    records = [record for record in found.values() if record is not None and record.matches(sizes)]
    whole = manifest is not None and len(records) == len(found)
    expected = manifest.units if manifest else None
    complete = None if expected is None else set(expected) <= {record.unit for record in records}
    return (
        kind,
        digest,
        manifest.label if manifest else None,
        len(records),
        None if expected is None else len(expected),
        sum(record.rows for record in records),
        sum(record.bytes for record in records),
        created,
        complete,
        "damaged" if not whole else {True: "complete", False: "partial", None: "open"}[complete],
    )


def _is_manifest(name: str) -> bool:
    return name.endswith("/manifest.json") and f"/{COMMITS}" not in name


def _below(sizes: dict[str, int], step: str) -> dict[str, int]:
    start = f"{step}/"
    return {name.removeprefix(start): size for name, size in sizes.items() if name.startswith(start)}


def _units(sizes: dict[str, int]) -> list[str]:
    names = [name.removeprefix(COMMITS) for name in sizes if name.startswith(COMMITS)]
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]
