"""A checkpoint with a fitted indexer laid over it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from indexscope import IndexscopeError
from indexscope.foreign import reading
from indexscope.storage.inputs.checkpoints import CheckpointFolder, CheckpointInfo, fingerprint
from indexscope.storage.inputs.fingerprints import FingerprintMode
from indexscope.storage.inputs.fitted import (
    CURVES_FILE,
    HELD_OUT_FILE,
    describe_fitted,
    fitted_fingerprint,
    load_fitted,
)
from indexscope.storage.store.json_types import JSON, canonical_json
from indexscope.tasks.common.edited import EditedModel
from indexscope.tasks.common.origin import Checkpoint

if TYPE_CHECKING:
    from indexscope.storage.inputs.model_skeleton import Dtype

#: Raise it when a fitted indexer selects otherwise than before.
LAID_OVER_VERSION = 1


@dataclass(frozen=True)
class LaidOverModel:
    """A checkpoint whose keys a fitted indexer selects.

    Attributes:
        origin: The checkpoint.
        indexer: Folder of the indexer.
        topk: Keys a query.
    """

    origin: CheckpointFolder
    indexer: str
    topk: int

    def fingerprint(self, mode: FingerprintMode) -> str:
        """Hash of what determines the model."""
        parts: dict[str, JSON] = {
            "model": self.origin.fingerprint(mode),
            "indexer": fitted_fingerprint(Path(self.indexer)),
            "topk": self.topk,
            "version": LAID_OVER_VERSION,
        }
        return sha256(canonical_json(parts).encode()).hexdigest()

    def load(self, dtype: Dtype, device: str) -> object:
        """The checkpoint's model with the indexer laid over it.

        Raises:
            IndexscopeError: Either cannot be loaded, or they do not fit each other.
        """
        model = self.origin.load(dtype, device)
        self.change(model)
        return model

    def change(self, model: Any) -> None:
        """Lay the indexer over a model that was loaded, or that is read layer by layer, as its scorers are then.

        Raises:
            IndexscopeError: The indexer cannot be read, or does not fit it.
        """
        from transformers import PreTrainedModel

        from indexscope.analysis.fitting.selector import lay_over
        from indexscope.tasks.common.fitting import fitted_of

        stored = load_fitted(self.indexer, at_once=isinstance(model, PreTrainedModel))
        lay_over(model, fitted_of(stored), self.topk)

    def told(self) -> AbstractContextManager[None]:
        """As of the checkpoint."""
        return self.origin.told()


def fit_of(checkpoint: Checkpoint | None) -> dict[str, pl.DataFrame]:
    """How the indexer that is laid over a model was fitted: the tables of `LEARNED`, as its fit left them beside it.

    None of them for any other model, and for an indexer that was moved without them.
    """
    origin = None if checkpoint is None else checkpoint.origin
    origin = origin.origin if isinstance(origin, EditedModel) else origin
    if not isinstance(origin, LaidOverModel):
        return {}
    folder, name = Path(origin.indexer).parent, Path(origin.indexer).name
    found = {}
    for table, file in {"fit_curves": CURVES_FILE, "fit_held_out": HELD_OUT_FILE}.items():
        if (folder / file).is_file():
            with reading(folder / file, "move it away, or fit the indexer again"):
                rows = pl.read_parquet(folder / file).filter(indexer=name)
            found[table] = rows
    return found


def laid_over(
    folder: Path, info: CheckpointInfo, indexer: str, topk: int | None
) -> tuple[LaidOverModel, CheckpointInfo]:
    """A checkpoint with an indexer, and what it says of itself; neither is loaded.

    Raises:
        IndexscopeError: The folder holds no indexer, it was fitted to another checkpoint, or it does not say how many
            keys to select.
    """
    parts = describe_fitted(Path(indexer))
    if parts.model != fingerprint(folder):
        reason = f"was fitted to another checkpoint than {folder.name}"
        raise IndexscopeError(indexer, reason, "give the checkpoint that fit.yaml named, or fit one to this")
    if topk is None and len(parts.topk) != 1:
        tuned = ", ".join(map(str, parts.topk))
        raise IndexscopeError(indexer, f"was tuned for several numbers of keys ({tuned})", "add topk: one of them")
    topk = parts.topk[0] if topk is None else topk
    told = replace(info, indexer_heads=parts.heads, indexer_dim=parts.dim, index_topk=topk, selects_all_of=topk)
    return LaidOverModel(CheckpointFolder(str(folder)), indexer, topk), told
