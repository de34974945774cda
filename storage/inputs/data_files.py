"""Which files a dataset source means: one file, a folder, a URL or a hub name, with splits told apart by name."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, cast

from fsspec.core import url_to_fs

from indexscope.errors import IndexscopeError
from indexscope.foreign import reading
from indexscope.storage.inputs.hub import find_dataset, is_hub_name

Format = Literal["parquet", "jsonl", "text"]
PARQUET = (".parquet", ".pq")
JSONL = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")
#: A .json file in a folder is more often a description than data.
TABLES = (*PARQUET, ".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "eval",
}
UNSUPPORTED = (".csv", ".tsv", ".arrow", ".zip")


@dataclass(frozen=True)
class DataFile:
    """One file of a dataset.

    Attributes:
        name: Its path within the dataset, for messages and sample names: never absolute.
        format: How it is read.
        opener: Opens its bytes as they are stored; a hub file is fetched only then.
    """

    name: str
    format: Format
    opener: Callable[[], BinaryIO]

    def open(self) -> BinaryIO:
        """Open for reading bytes, decompressed if its name says so."""
        stored = self.opener()
        return cast(BinaryIO, gzip.open(stored, "rb")) if self.name.lower().endswith(".gz") else stored


def data_files(source: str, split: str) -> list[DataFile]:
    """Find the files of a source, sorted by name.

    A folder that has Parquet or JSONL files is read as those, and its other files are left alone; one that has none is
    read as text, one document a file. Hidden files are never read. Where the names of a folder's data files tell splits
    apart (`train-00000.parquet`, `test.jsonl`, `validation/…`), only those of the split are taken.

    Raises:
        IndexscopeError: There is no such source, it is empty, or it has no such split.
    """
    if "://" in source:
        return _url(source, split)
    # os.path answers False where a foreign string is no possible path; pathlib raises.
    path = os.path.expanduser(source)
    if os.path.isfile(path):
        return [_single(path, lambda: Path(path).open("rb"))]
    if os.path.isdir(path):
        return _chosen(list(_walk(Path(path))), source, split, lambda name: lambda: (Path(path) / name).open("rb"))
    if os.path.exists(path):
        raise IndexscopeError(source, "is neither a file nor a folder", "give a file or a folder")
    looks_like_file = source.lower().endswith((*PARQUET, *JSONL, *UNSUPPORTED, ".txt", ".md"))
    if looks_like_file or not is_hub_name(source):
        raise IndexscopeError(source, "does not exist", "give a file, a folder, builtin:python-stdlib or a hub name")
    return _hub(source, split)


def format_of(name: str) -> Format:
    """Tell by its name how a file is read.

    >>> format_of("a.parquet"), format_of("b.JSONL.gz"), format_of("README")
    ('parquet', 'jsonl', 'text')
    """
    lower = name.lower()
    if lower.endswith(PARQUET):
        return "parquet"
    return "jsonl" if lower.endswith(JSONL) else "text"


def split_of(name: str) -> str | None:
    """The split that a file's name speaks of, if any: the last such word of its path.

    >>> split_of("data/train-00000-of-00002.parquet"), split_of("dev.jsonl"), split_of("trains.jsonl")
    ('train', 'validation', None)
    """
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLITS[word] for word in reversed(words) if word in SPLITS), None)


def _hub(source: str, split: str) -> list[DataFile]:
    dataset = find_dataset(source)
    if not any(name.lower().endswith(TABLES) for name in dataset.files):
        reason = "has no Parquet or JSONL files on the hub"
        raise IndexscopeError(source, reason, "give the name of a dataset that has, or download and convert it")
    return _chosen(list(dataset.files), source, split, lambda name: lambda: dataset.fetch(name).open("rb"))


def _url(source: str, split: str) -> list[DataFile]:
    with reading(source, "check the URL and its credentials", "cannot be opened"):
        fs, path = url_to_fs(source)
        if fs.isfile(path):
            return [_single(path, partial(fs.open, path, "rb"))]
        names = [found[len(path) :].lstrip("/") for found in fs.find(path)]
    if not names:
        raise IndexscopeError(source, "does not exist or is empty", "check the URL")
    return _chosen(names, source, split, lambda name: partial(fs.open, f"{path}/{name}", "rb"))


def _single(path: str, opener: Callable[[], BinaryIO]) -> DataFile:
    name = os.path.basename(path)
    if name.lower().endswith(UNSUPPORTED):
        raise IndexscopeError(name, "is of a format that is not read", "convert it to Parquet or JSONL")
    return DataFile(name, format_of(name), opener)


def _walk(folder: Path) -> Iterator[str]:
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if (Path(here) / name).is_file():
                yield (Path(here) / name).relative_to(folder).as_posix()


def _chosen(
    names: list[str], source: str, split: str, opener: Callable[[str], Callable[[], BinaryIO]]
) -> list[DataFile]:
    seen = sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))
    tables = [name for name in seen if name.lower().endswith(TABLES)]
    chosen = _of_split(tables, source, split) if tables else seen
    if not chosen:
        raise IndexscopeError(source, "holds no files", "give a folder with Parquet, JSONL or text files")
    # Without Parquet or JSONL every file is a document, a .json too.
    return [DataFile(name, format_of(name) if tables else "text", opener(name)) for name in chosen]


def _of_split(names: list[str], source: str, split: str) -> list[str]:
    splits = {name: split_of(name) for name in names}
    known = sorted({found for found in splits.values() if found})
    if not known:
        return names
    wanted = SPLITS.get(split.lower(), split.lower())
    chosen = [name for name in names if splits[name] == wanted]
    if not chosen:
        raise IndexscopeError(source, f"has no split {split!r}", f"set split to one of: {', '.join(known)}")
    return chosen
