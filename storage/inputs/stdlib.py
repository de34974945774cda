"""The built-in corpus: the standard library's documentation and sources, read from the running interpreter."""

from __future__ import annotations

import hashlib
import os
import pydoc_data.topics
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

Split = Literal["train", "held_out"]

# Character tables and test suites would drown the prose and code; topics.py is read as topics, not as a source.
LEFT_OUT = {
    "encodings", "test", "tests", "idlelib", "lib2to3", "site-packages", "ensurepip", "pydoc_data", "__pycache__",
}  # fmt: skip
HELD_OUT_SHARE = 0.1


class Document(NamedTuple):
    """One text with the name it is known by."""

    name: str
    text: str


def split_of(name: str) -> Split:
    """Tell whether a document is trained on, by its name alone, so that every Python version agrees.

    >>> split_of("topics/lambda"), split_of("lib/bisect.py")
    ('train', 'train')
    """
    digest = hashlib.sha256(name.encode()).digest()
    return "held_out" if int.from_bytes(digest[:8], "big") < HELD_OUT_SHARE * 2**64 else "train"


def stdlib_documents(split: Split) -> list[Document]:
    """Read the documents of one split, sorted by name."""
    documents = [document for document in _all_documents() if split_of(document.name) == split]
    return sorted(documents)


def _all_documents() -> Iterator[Document]:
    for topic, text in pydoc_data.topics.topics.items():
        yield Document(f"topics/{topic}", text)
    root = Path(sysconfig.get_path("stdlib"))
    for folder, folders, names in os.walk(root):
        inside = Path(folder).relative_to(root)
        # config-3.x-<platform> holds build settings of this very machine.
        folders[:] = [name for name in folders if not _left_out(inside / name)]
        for name in names:
            path = inside / name
            if name.endswith(".py") and not _left_out(path):
                text = (root / path).read_text(encoding="utf-8", errors="ignore")
                if text.strip():
                    yield Document(f"lib/{path.as_posix()}", text)


def _left_out(path: Path) -> bool:
    return path.name in LEFT_OUT or path.parts[0].startswith("config-")
