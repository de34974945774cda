"""Fitted indexers on disk: written whole or not at all, read back with everything that could be wrong in one line.

A folder ``h4-d64`` holds `indexer.safetensors`, `indexer.json` that describes it, and a card.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import Field, JsonValue, ValidationError
from safetensors import safe_open
from safetensors.torch import load, save

from indexscope.errors import IndexscopeError
from indexscope.foreign import parse_json, read_file, reading
from indexscope.settings import Frozen
from indexscope.storage.inputs.fingerprints import content_fingerprint
from indexscope.storage.inputs.safetensors_header import read_header
from indexscope.storage.store.files import TEMPORARY, Folder, make_folders, open_store
from indexscope.storage.store.json_types import canonical_json, pretty_json

#: Tables of the fit, beside the folders of its indexers.
CURVES_FILE, HELD_OUT_FILE = "curves.parquet", "held_out.parquet"
WEIGHTS, DESCRIPTION, CARD = "indexer.safetensors", "indexer.json", "MODEL_CARD.md"
REMEDY = "give a folder that `indexscope fit` wrote, such as fitted/h4-d64"
#: Version of the format.
FORMAT = 1
#: Where a safetensors file keeps what else is to be known. One entry: the order of several would not be fixed.
ABOUT = "indexscope"


class LayerParts(Frozen):
    """The indexer of one layer; see `indexscope.analysis.fitting.scorer.ScorerShape`."""

    hidden: int = Field(ge=1)
    query: int = Field(ge=1)
    source: str = Field(pattern=r"^(latent|hidden)$")
    rotary: tuple[int, ...] = Field(default=())


class FittedParts(Frozen):
    """What indexer.json says.

    Attributes:
        format: `FORMAT`.
        heads: Indexer heads of a layer.
        dim: Width of one.
        topk: Numbers of keys that it was tuned for.
        layers: By layer.
        model: Fingerprint of the checkpoint that it was fitted to.
        family: model_type of that.
        about: How it was made: settings, versions. Nothing depends on it.
    """

    format: int = Field(ge=FORMAT, le=FORMAT)
    heads: int = Field(ge=1)
    dim: int = Field(ge=1)
    topk: tuple[int, ...]
    layers: dict[int, LayerParts]
    model: str
    family: str
    about: dict[str, JsonValue] = Field(default={})


@dataclass(frozen=True)
class StoredIndexer:
    """A fitted indexer as it was read.

    Attributes:
        parts: What it is made of.
        weights: Parameters by name, ``layers.<layer>.<parameter>``.
        fingerprint: Hash of all that decides what it selects, but for the model and topk; 64 hexadecimal digits.
    """

    parts: FittedParts
    weights: Mapping[str, torch.Tensor]
    fingerprint: str


class _OnDisk(Mapping[str, torch.Tensor]):
    """Tensors of a file by name, each read when it is asked for."""

    def __init__(self, file: Path) -> None:
        self._file = file
        with safe_open(file, framework="pt") as opened:
            self._names = tuple(opened.keys())

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        with safe_open(self._file, framework="pt") as opened:
            return cast(torch.Tensor, opened.get_tensor(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def load_fitted(folder: str | os.PathLike[str], at_once: bool = True) -> StoredIndexer:
    """Read a fitted indexer.

    Args:
        folder: Where it is.
        at_once: Whether its weights are read now; else each whenever it is asked for, after a first look at all.

    Raises:
        IndexscopeError: The folder holds none, or a file is damaged, of another format, or does not fit the other.
    """
    path = Path(folder)
    parts = describe_fitted(path)
    read_header(path / WEIGHTS)
    with reading(path / WEIGHTS, REMEDY):
        content = path / WEIGHTS
        weights: Mapping[str, torch.Tensor] = load(content.read_bytes()) if at_once else _OnDisk(content)
    wanted = dict(_shapes(parts))
    for name in sorted(wanted.keys() | weights.keys()):
        stored = tuple(weights[name].shape) if name in weights else None
        if stored != wanted.get(name):
            told = (
                "is missing" if stored is None else f"has shape {stored}, where {DESCRIPTION} means {wanted.get(name)}"
            )
            raise IndexscopeError(path / WEIGHTS, f"{name} {told}", REMEDY)
        if not bool(torch.isfinite(weights[name]).all()):
            raise IndexscopeError(path / WEIGHTS, f"{name} is not finite", REMEDY)
    return StoredIndexer(parts, weights, fitted_fingerprint(path))


def describe_fitted(folder: Path) -> FittedParts:
    """Read what a fitted indexer says of itself.

    Raises:
        IndexscopeError: The folder holds none, or its description is no such.
    """
    if not (folder / WEIGHTS).is_file() or not (folder / DESCRIPTION).is_file():
        reason = "does not exist" if not folder.is_dir() else f"holds no fitted indexer ({WEIGHTS}, {DESCRIPTION})"
        raise IndexscopeError(folder, reason, REMEDY)
    content = parse_json(read_file(folder / DESCRIPTION, REMEDY), folder / DESCRIPTION, REMEDY)
    try:
        return FittedParts.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise IndexscopeError(folder / DESCRIPTION, f"{where}: {first['msg']}", REMEDY) from None


def fitted_fingerprint(folder: Path) -> str:
    """Hash of what decides the scores of a fitted indexer: its weights and what they mean.

    Raises:
        IndexscopeError: The folder holds no fitted indexer.
    """
    parts = describe_fitted(folder)
    meaning = parts.model_dump(mode="json", include={"heads", "dim", "layers"})
    return hashlib.sha256(
        f"{canonical_json(meaning)}{content_fingerprint(folder / WEIGHTS, 'full')}".encode()
    ).hexdigest()


def save_fitted(
    folder: Path, parts: FittedParts, weights: Mapping[str, torch.Tensor], card: str, checkpoint: Path | None = None
) -> None:
    """Write a fitted indexer; the folder appears whole, in place of what was there.

    Args:
        folder: ``fitted/h4-d64``.
        parts: What it is made of.
        weights: Parameters by name.
        card: Markdown.
        checkpoint: A folder that is moved into it.
    """
    make_folders(folder.parent)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}{TEMPORARY}")
    temporary.mkdir()
    try:
        ordered = {name: weights[name].contiguous() for name in sorted(weights)}
        (temporary / WEIGHTS).write_bytes(save(ordered, metadata={"format": "pt"}))
        (temporary / DESCRIPTION).write_bytes(pretty_json(parts.model_dump(mode="json")))
        (temporary / CARD).write_text(card, encoding="utf-8")
        if checkpoint is not None:
            checkpoint.rename(temporary / "checkpoint")
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_state(file: Path, about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors and what is to be known of them in one file, which a reader sees whole or not at all."""
    ordered = {name: tensors[name].contiguous() for name in sorted(tensors)}
    target: Folder = open_store(file.parent)
    target.write(file.name, save(ordered, metadata={ABOUT: json.dumps(about, sort_keys=True)}))


def load_state(file: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
    """What `save_state` wrote; None where there is nothing, or nothing whole."""
    try:
        header = parse_json(read_header(file).text, file, REMEDY)
        tensors = load(file.read_bytes())
        about = json.loads(header["__metadata__"][ABOUT])
    except (IndexscopeError, OSError, KeyError, ValueError, TypeError):
        return None
    return (about, tensors) if isinstance(about, dict) else None


def _shapes(parts: FittedParts) -> list[tuple[str, tuple[int, ...]]]:
    found: list[tuple[str, tuple[int, ...]]] = []
    for layer, one in parts.layers.items():
        found += [
            (f"layers.{layer}.wq_b.weight", (parts.heads * parts.dim, one.query)),
            (f"layers.{layer}.wk.weight", (parts.dim, one.hidden)),
            (f"layers.{layer}.k_norm.weight", (parts.dim,)),
            (f"layers.{layer}.k_norm.bias", (parts.dim,)),
            (f"layers.{layer}.weights_proj.weight", (parts.heads, one.hidden)),
        ]
    return found
