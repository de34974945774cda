"""What a store holds, for people: one row a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl

from indexscope.errors import IndexscopeError
from indexscope.storage.store import packs
from indexscope.storage.store.files import REMOTE_READERS, Folder
from indexscope.storage.store.records import Manifest, parse_manifest, parse_marker

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
        as committed, or the manifest is torn) or "newer" (written by a newer Indexscope; not looked into). Units of a
        pack are believed, and their files are not listed.
    """
    steps = sorted(_steps(folder))
    with ThreadPoolExecutor(1 if folder.is_local else REMOTE_READERS) as pool:
        rows = list(pool.map(lambda step: _row(folder.child(step), step), steps))
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def _steps(folder: Folder) -> list[str]:
    """Paths of the folders that hold a manifest; folders are opened level by level, and none below a step."""
    found: list[str] = []
    level = [name for name, is_folder in folder.children().items() if is_folder and not name.startswith("_")]
    with ThreadPoolExecutor(1 if folder.is_local else REMOTE_READERS) as pool:
        while level:
            below = list(zip(level, pool.map(lambda name: _children(folder, name), level), strict=True))
            level = []
            for name, children in below:
                if "/" in name and children.get("manifest.json") is False:
                    found.append(name)
                else:
                    level += [f"{name}/{child}" for child, is_folder in children.items() if is_folder]
    return found


def _children(folder: Folder, name: str) -> dict[str, bool]:
    try:
        return folder.children(name)
    except IndexscopeError:  # somebody else's, who lets nobody look
        return {}


def _row(step: Folder, path: str) -> tuple[object, ...]:
    kind, _, digest = path.rpartition("/")
    created = step.modified("manifest.json")
    try:
        manifest = parse_manifest(step.read("manifest.json"), step.url)
        found = _packed(step, path, manifest) or _listed(step, path)
    except IndexscopeError:
        return (kind, digest, None, None, None, None, None, created, None, "newer")
    expected = manifest.units if manifest else None
    complete = None if expected is None else found.has(expected)
    whole = manifest is not None and not found.damaged
    return (
        kind,
        digest,
        manifest.label if manifest else None,
        found.units,
        None if expected is None else len(expected),
        found.rows,
        found.bytes,
        created,
        complete,
        "damaged" if not whole else {True: "complete", False: "partial", None: "open"}[complete],
    )


@dataclass(frozen=True)
class _Found:
    """The committed units of a step, their rows and bytes, how many are damaged, and which of some names are there."""

    units: int
    rows: int
    bytes: int
    damaged: int
    has: Callable[[Sequence[str]], bool]


def _packed(step: Folder, path: str, manifest: Manifest | None) -> _Found | None:
    """What the packs of a step tell; None if they do not tell of nearly all its units."""
    if manifest is None or manifest.units is None or len(manifest.units) < packs.LEAST:
        return None
    count = rows = size = 0
    left: list[str] = []
    for run, pack in packs.look_up(step, path, manifest.units):
        if pack is not None and pack.units == run:
            count, rows, size = count + len(run), rows + pack.rows, size + pack.size
        elif len(left) + len(run) > packs.FEW:
            return None
        else:
            left += run
    if len(left) == len(manifest.units):
        return None
    looked = packs.look_at(step, path, left).values()
    records = [record for _, record in looked if record is not None]
    damaged = sum(status == "damaged" for status, _ in looked)
    count += len(records)
    rows, size = rows + sum(record.rows for record in records), size + sum(record.bytes for record in records)
    return _Found(count, rows, size, damaged, lambda expected: count == len(expected))


def _listed(step: Folder, path: str) -> _Found:
    """What the markers of a step and a listing of its files tell."""
    sizes = step.sizes()
    units = _units(sizes)
    markers = step.read_many([f"{COMMITS}{unit}.json" for unit in units])
    found = [
        None if data is None else parse_marker(data, path, unit) for unit, data in zip(units, markers, strict=True)
    ]
    records = [record for record in found if record is not None and record.matches(sizes)]
    return _Found(
        len(records),
        sum(record.rows for record in records),
        sum(record.bytes for record in records),
        len(found) - len(records),
        lambda expected: {record.unit for record in records}.issuperset(expected),
    )


def _units(sizes: dict[str, int]) -> list[str]:
    names = [name.removeprefix(COMMITS) for name in sizes if name.startswith(COMMITS)]
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]
