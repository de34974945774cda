"""Fingerprints of checkpoints: equal models get equal fingerprints, wherever they lie and whatever they are called."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from storage.json_types import JSON, canonical_json
from storage.safetensors_header import TensorEntry, read_header
from storage.weight_files import read_config, weight_files

#: Keys of config.json that change without the model changing.
VOLATILE = {"_name_or_path", "transformers_version"}
#: Files up to this size are hashed in full.
FULL_FILE = 64 * 2**20
#: In larger files a tensor up to this size is hashed in full,
FULL_TENSOR = 3 * 2**16
#: and of a larger tensor three blocks of this size: the first, the middle and the last.
BLOCK = 2**16


def fingerprint(path: Path) -> str:
    """Hash a checkpoint: its configuration and its weights.

    The hash covers config.json (without `_name_or_path` and `transformers_version`, at any depth) and every safetensors
    file that a load reads: size, header (names, dtypes, shapes) and data. Files up to 64 MiB are hashed in full. Of
    larger ones every tensor is sampled: in full up to 192 KiB, otherwise its first, middle and last 64 KiB. Training
    any tensor changes it almost everywhere, so this tells optimised checkpoints apart at a few per cent of a full read;
    an edit by hand of a few numbers within a large tensor can go unseen.

    Args:
        path: The checkpoint's folder.

    Returns:
        64 hexadecimal digits. File names are not part of it, nor is the tokenizer (a dataset's fingerprint is over
        token ids).

    Raises:
        IndexscopeError: The folder is no checkpoint, or a file is truncated.
    """
    whole = hashlib.sha256(canonical_json(_lasting(read_config(path))).encode())
    for digest in sorted(_file_digest(file) for file in weight_files(path)):
        whole.update(digest)
    return whole.hexdigest()


def _lasting(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {key: _lasting(item) for key, item in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [_lasting(item) for item in value]
    return value


def _file_digest(path: Path) -> bytes:
    header = read_header(path)
    with path.open("rb") as file:
        if header.size <= FULL_FILE:
            return hashlib.file_digest(file, "sha256").digest()
        digest = hashlib.sha256(header.size.to_bytes(8, "little") + header.text)
        for tensor in header.tensors:
            for start, length in _blocks(tensor):
                digest.update(_read(file, start, length))
        return digest.digest()


def _blocks(tensor: TensorEntry) -> list[tuple[int, int]]:
    length = tensor.stop - tensor.start
    if length <= FULL_TENSOR:
        return [(tensor.start, length)]
    middle = tensor.start + (length - BLOCK) // 2
    return [(start, BLOCK) for start in (tensor.start, middle, tensor.stop - BLOCK)]


def _read(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)
