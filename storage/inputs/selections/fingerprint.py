"""What tells dumps apart: their content, wherever they lie and whatever they are called."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from indexscope.storage.inputs.fingerprints import FingerprintMode, content_fingerprint
from indexscope.storage.inputs.selections.dumps import dump_files
from indexscope.storage.inputs.selections.names import Format
from indexscope.storage.inputs.selections.vllm import IDS, IDS_JSON


def dump_fingerprint(path: str | os.PathLike[str], form: Format, mode: FingerprintMode = "sampled") -> str:
    """Hash a dump: its format and the bytes of its files.

    See `indexscope.storage.inputs.fingerprints.content_fingerprint`: of files above 256 MiB the sampled mode takes a
    part, so that a change of a few rows can go unseen, which the full mode sees.

    Raises:
        IndexscopeError: A file cannot be read.
    """
    files = sorted({part for file in dump_files(path, form) for part in _with_ids(file, form)})
    whole = hashlib.sha256(form.encode())
    for digest in sorted(content_fingerprint(file, mode) for file in files):
        whole.update(digest.encode())
    return whole.hexdigest()


def _with_ids(file: Path, form: Format) -> list[Path]:
    """A file, and those beside it that hold its token ids."""
    if form != "vllm" or file.suffix.lower() != ".npy":
        return [file]
    return [file, *(ids for ids in (file.with_suffix(IDS), file.with_suffix(IDS_JSON)) if ids.is_file())]
