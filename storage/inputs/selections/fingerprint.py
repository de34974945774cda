"""What tells dumps apart: their content, wherever they lie and whatever they are called."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from indexscope.foreign import reading
from indexscope.storage.inputs.fingerprints import BLOCK, FULL_CHECKPOINT, PIECE, FingerprintMode
from indexscope.storage.inputs.selections.dumps import dump_files
from indexscope.storage.inputs.selections.names import Format
from indexscope.storage.inputs.selections.vllm import IDS, IDS_JSON

#: Blocks of a large file that the sampled mode hashes, evenly spread: a fault of a kernel may be in a few rows only.
BLOCKS = 1024


def dump_fingerprint(path: str | os.PathLike[str], form: Format, mode: FingerprintMode = "sampled") -> str:
    """Hash a dump: its format and the bytes of its files.

    Up to 256 MiB are hashed in full. Of more, the sampled mode takes 1,024 blocks of 64 KiB of every file, and its
    size; a change of a few rows can go unseen, which the full mode sees.

    Raises:
        IndexscopeError: A file cannot be read.
    """
    files = sorted({part for file in dump_files(path, form) for part in _with_ids(file, form)})
    full = mode == "full" or sum(file.stat().st_size for file in files) <= FULL_CHECKPOINT
    whole = hashlib.sha256(f"{form} {'full' if full else 'sampled'}".encode())
    for digest in sorted(_digest(file, full) for file in files):
        whole.update(digest)
    return whole.hexdigest()


def _with_ids(file: Path, form: Format) -> list[Path]:
    """A file, and those beside it that hold its token ids."""
    if form != "vllm" or file.suffix.lower() != ".npy":
        return [file]
    return [file, *(ids for ids in (file.with_suffix(IDS), file.with_suffix(IDS_JSON)) if ids.is_file())]


def _digest(path: Path, full: bool) -> bytes:
    with reading(path, "copy the dump again"), path.open("rb", buffering=0) as file:
        size = file.seek(0, 2)
        digest = hashlib.sha256(size.to_bytes(8, "little"))
        if full or size <= BLOCKS * BLOCK:
            file.seek(0)
            while piece := file.read(PIECE):
                digest.update(piece)
            return digest.digest()
        for number in range(BLOCKS):
            file.seek((size - BLOCK) * number // (BLOCKS - 1))
            digest.update(file.read(BLOCK))
    return digest.digest()
