"""What a store says about itself: the manifest of a step and the commit marker of a unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from indexscope import __version__
from indexscope.errors import IndexscopeError
from indexscope.foreign import json_object
from indexscope.storage.store.json_types import JSON, is_sealed, sealed_json
from indexscope.storage.store.keys import NAME, SCHEMA_VERSION
from indexscope.storage.store.names import Names

UnitStatus = Literal["committed", "missing", "damaged"]
#: So many units and more are named in a manifest by runs of names that count up, under this key.
MANY, RUNS = 1000, "unit_runs"


@dataclass(frozen=True)
class FileRecord:
    """One Parquet file of a unit: its table, size in bytes, rows and checksum."""

    table: str
    bytes: int
    rows: int
    sha256: str


@dataclass(frozen=True)
class UnitRecord:
    """A committed unit: small, picklable, and without any table in it.

    Attributes:
        kind: Kind of the step.
        digest: Digest of the step.
        unit: The unit's name, such as "shard-00003".
        files: Its files, by table name.
        extra: What the writer wanted to be remembered, such as a duration in seconds.
    """

    kind: str
    digest: str
    unit: str
    files: tuple[FileRecord, ...]
    extra: Mapping[str, JSON] = field(default_factory=dict, hash=False)

    @property
    def rows(self) -> int:
        """Rows of all tables together."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.bytes for file in self.files)

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables."""
        return tuple(file.table for file in self.files)

    def file(self, table: str) -> FileRecord:
        """The file of one of the tables."""
        return next(file for file in self.files if file.table == table)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the files, relative to the step's folder."""
        return tuple(table_file(file.table, self.unit) for file in self.files)

    def matches(self, sizes: Mapping[str, int | None]) -> bool:
        """Whether every file is there in full, given what lies in the step's folder by name."""
        return all(sizes.get(table_file(file.table, self.unit)) == file.bytes for file in self.files)


@dataclass(frozen=True)
class Manifest:
    """What a step's folder holds and why: written at first use, never needed to read the tables.

    Attributes:
        kind: Kind of the step.
        digest: Digest of the step.
        inputs: The inputs that the digest names.
        label: What a person calls it.
        units: The units that make it complete; None while nobody has said.
        schema_version: Layout of the folder.
        indexscope_version: Version that wrote it.
    """

    kind: str
    digest: str
    inputs: Mapping[str, JSON]
    label: str
    units: Sequence[str] | None
    schema_version: int = SCHEMA_VERSION
    indexscope_version: str = __version__

    def encode(self) -> bytes:
        """The manifest as its file holds it."""
        runs = Names.of(self.units or ()).runs
        # To an older Indexscope nobody has said how many units there will be; it finds those that are there.
        by_runs = len(self.units or ()) >= MANY > len(runs)
        return sealed_json(
            {
                "schema_version": self.schema_version,
                "indexscope_version": self.indexscope_version,
                "kind": self.kind,
                "digest": self.digest,
                "label": self.label,
                "units": None if self.units is None or by_runs else list(self.units),
                "inputs": self.inputs,
                **({RUNS: runs} if by_runs else {}),
            }
        )


def encode_marker(record: UnitRecord) -> bytes:
    """The commit marker of a unit."""
    files: list[JSON] = [
        {
            "table": file.table,
            "file": table_file(file.table, record.unit),
            "bytes": file.bytes,
            "rows": file.rows,
            "sha256": file.sha256,
        }
        for file in record.files
    ]
    head: dict[str, JSON] = {"schema_version": SCHEMA_VERSION, "kind": record.kind, "digest": record.digest}
    return sealed_json({**head, "unit": record.unit, "files": files, "extra": record.extra})


def table_file(table: str, unit: str) -> str:
    """Where a unit's part of a table lies, relative to the step's folder."""
    return f"{table}/{unit}.parquet"


def marker_file(unit: str) -> str:
    """Where a unit's commit marker lies, relative to the step's folder."""
    return f"_commits/{unit}.json"


def parse_marker(data: bytes, key_path: str, unit: str) -> UnitRecord | None:
    """Read a commit marker; None if it is torn, foreign or not of this unit.

    Raises:
        IndexscopeError: It was written by a newer Indexscope.
    """
    content = json_object(data)
    if content is None:
        return None
    refuse_newer(content, f"{key_path}/{unit}")
    if not is_sealed(content, data):
        return None
    try:
        files = tuple(_file(entry, unit) for entry in content["files"])
        extra = content["extra"]
        kind, digest = content["kind"], content["digest"]
        foreign = content["unit"] != unit or f"{kind}/{digest}" != key_path
        return None if foreign or not isinstance(extra, dict) else UnitRecord(kind, digest, unit, files, extra)
    except (KeyError, TypeError, ValueError):
        return None


def parse_manifest(data: bytes, where: str) -> Manifest | None:
    """Read a manifest; None if it is torn or foreign.

    Raises:
        IndexscopeError: It was written by a newer Indexscope.
    """
    content = json_object(data)
    if content is None:
        return None
    refuse_newer(content, where)
    if not is_sealed(content, data):
        return None
    try:
        units, runs = content["units"], content.get(RUNS)
        known = None if units is None else tuple(str(unit) for unit in units)
        return Manifest(
            kind=str(content["kind"]),
            digest=str(content["digest"]),
            inputs=dict(content["inputs"]),
            label=str(content["label"]),
            units=known if runs is None else Names((str(first), int(count)) for first, count in runs),
            schema_version=int(content["schema_version"]),
            indexscope_version=str(content["indexscope_version"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def refuse_newer(content: Mapping[str, object], where: str) -> None:
    """Refuse what a newer Indexscope wrote, since its meaning is unknown here."""
    version = content.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        reason = f"was written with store schema {version}; Indexscope {__version__} knows up to {SCHEMA_VERSION}"
        raise IndexscopeError(where, reason, "upgrade indexscope or use another store")


def _file(entry: Mapping[str, Any], unit: str) -> FileRecord:
    table, size, rows, digest = entry["table"], entry["bytes"], entry["rows"], entry["sha256"]
    # The name is derived, never trusted: a marker cannot point outside its step.
    if not NAME.fullmatch(table) or entry["file"] != table_file(table, unit):
        raise ValueError(table)
    if type(size) is not int or type(rows) is not int or type(digest) is not str:
        raise TypeError(table)
    return FileRecord(table, size, rows, digest)
