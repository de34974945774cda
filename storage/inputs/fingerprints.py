"""Fingerprints of checkpoints: equal models get equal fingerprints, wherever they lie and whatever they are called."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from indexscope.errors import IndexscopeError
from indexscope.foreign import COPY_AGAIN, reading
from indexscope.storage.inputs.safetensors_header import TensorEntry, read_header
from indexscope.storage.inputs.weight_files import read_config, weight_files
from indexscope.storage.store.json_types import JSON, canonical_json

#: How much of a checkpoint is hashed.
FingerprintMode = Literal["sampled", "full"]
#: Keys of config.json that change without the model changing.
VOLATILE = {"_name_or_path", "transformers_version"}
#: Checkpoints whose weights take up to this many bytes are hashed in full in either mode.
FULL_CHECKPOINT = 256 * 2**20
#: Of larger ones the sampled mode hashes a tensor up to this size in full,
FULL_TENSOR = 3 * 2**16
#: and of a larger tensor three blocks of this size: the first, the middle and the last.
BLOCK = 2**16
#: Bytes read at once.
PIECE = 2**22
#: Files read at the same time where blocks are sampled: that waits for the disk rather than for the processor.
READERS = 8


@dataclass(frozen=True)
class _File:
    path: Path
    tensors: tuple[TensorEntry, ...]


def fingerprint(path: Path, mode: FingerprintMode = "sampled") -> str:
    """Hash a checkpoint: its configuration and its weights.

    The hash covers config.json (without `_name_or_path` and `transformers_version`, at any depth) and every tensor of
    the safetensors files that a load reads: name, dtype, shape and data. Up to 256 MiB of weights are hashed in full.
    Of more, the sampled mode takes a part of every tensor: all of it up to 192 KiB, otherwise its first, middle and
    last 64 KiB. Training changes a tensor almost everywhere, so this tells optimised checkpoints apart from a per cent
    of the bytes of large matrices; an edit of a few numbers deep within a large tensor can go unseen. The full mode
    hashes every byte of every tensor. The two modes never give the same fingerprint but where both hash everything.

    How the tensors are spread over files is no part of it, nor are file names, padding and metadata, nor is the
    tokenizer (a dataset's fingerprint is over token ids).

    Args:
        path: The checkpoint's folder.
        mode: "sampled" or "full".

    Returns:
        64 hexadecimal digits.

    Raises:
        IndexscopeError: The folder is no checkpoint, or a file is truncated or cannot be read.
    """
    whole = hashlib.sha256(canonical_json(_lasting(read_config(path))).encode())
    files = [_File(file, read_header(file).tensors) for file in weight_files(path)]
    size = sum(tensor.stop - tensor.start for file in files for tensor in file.tensors)
    full = mode == "full" or size <= FULL_CHECKPOINT
    whole.update(b"full" if full else b"sampled")
    readers = min(READERS, os.cpu_count() or 1) if full else READERS
    with ThreadPoolExecutor(readers) as pool:
        digests = [digest for found in pool.map(lambda file: _digests(file, full), files) for digest in found]
    for digest in sorted(digests):
        whole.update(digest)
    return whole.hexdigest()


def content_fingerprint(path: Path, mode: FingerprintMode = "sampled") -> str:
    """Hash a file, or every file of a folder, whatever is in it; where it lies and what it is called is no part of it.

    Files up to 256 MiB are hashed in full. Of a larger one the sampled mode takes its size, its last 64 KiB and the
    first 64 KiB of every 4 MiB; the full mode takes every byte. Names within a folder count; hidden files do not.

    Args:
        path: A file or a folder.
        mode: "sampled" or "full".

    Returns:
        64 hexadecimal digits.

    Raises:
        IndexscopeError: Something cannot be read, or a folder has no file.
    """
    if path.is_file():
        return _content(path, mode).hexdigest()
    with reading(path, COPY_AGAIN):
        names = sorted(
            name
            for name in (file.relative_to(path) for file in path.rglob("*") if file.is_file())
            if not any(part.startswith(".") for part in name.parts)
        )
    if not names:
        raise IndexscopeError(path, "holds no file", "give a file, or a folder of files")
    whole = hashlib.sha256()
    for name in names:
        whole.update(canonical_json([name.as_posix(), _content(path / name, mode).hexdigest()]).encode())
    return whole.hexdigest()


def _content(path: Path, mode: FingerprintMode) -> hashlib._Hash:
    with reading(path, COPY_AGAIN), path.open("rb", buffering=0) as source:
        size = os.fstat(source.fileno()).st_size
        full = mode == "full" or size <= FULL_CHECKPOINT
        digest = hashlib.sha256(f"{'full' if full else 'sampled'} {size}".encode())
        starts = [*range(0, size - BLOCK, PIECE), size - BLOCK]
        for start, length in [(0, size)] if full else [(start, BLOCK) for start in starts]:
            for piece in _pieces(source, start, length, path):
                digest.update(piece)
        return digest


def _lasting(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {key: _lasting(item) for key, item in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [_lasting(item) for item in value]
    return value


def _digests(file: _File, full: bool) -> list[bytes]:
    """A digest of each tensor of a file."""
    with reading(file.path, COPY_AGAIN), file.path.open("rb", buffering=0) as source:
        return [_digest(source, tensor, full, file.path) for tensor in file.tensors]


def _digest(source: BinaryIO, tensor: TensorEntry, full: bool, path: Path) -> bytes:
    head: list[JSON] = [tensor.name, tensor.dtype, list(tensor.shape), tensor.stop - tensor.start]
    digest = hashlib.sha256(canonical_json(head).encode())
    for start, length in [(tensor.start, tensor.stop - tensor.start)] if full else _blocks(tensor):
        for piece in _pieces(source, start, length, path):
            digest.update(piece)
    return digest.digest()


def _blocks(tensor: TensorEntry) -> list[tuple[int, int]]:
    length = tensor.stop - tensor.start
    if length <= FULL_TENSOR:
        return [(tensor.start, length)]
    middle = tensor.start + (length - BLOCK) // 2
    return [(start, BLOCK) for start in (tensor.start, middle, tensor.stop - BLOCK)]


def _pieces(source: BinaryIO, start: int, length: int, path: Path) -> Iterator[bytes]:
    source.seek(start)
    while length:
        piece = source.read(min(PIECE, length))
        if not piece:
            raise IndexscopeError(path, "became shorter while it was read", COPY_AGAIN)
        length -= len(piece)
        yield piece
