"""The models of a study, found and fingerprinted; what a loader of the user's own makes is asked what it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from indexscope import IndexscopeError
from indexscope.flows.study.config import ModelEdit, ModelRef, Study
from indexscope.flows.study.inputs import ModelPlan
from indexscope.flows.study.refused import Refused
from indexscope.storage.inputs.checkpoints import CheckpointFolder, CheckpointInfo, describe, resolve
from indexscope.storage.store.store import Store
from indexscope.tasks.common.edited import EditedModel, edited_info
from indexscope.tasks.common.laid_over import laid_over
from indexscope.tasks.common.models import ask, release
from indexscope.tasks.common.origin import Checkpoint, Origin

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def planned(study: Study, refused: Refused) -> tuple[ModelPlan, ...]:
    """Every model of a study that is run, baseline first; members of series that cannot be used are left out and told.

    A checkpoint is not loaded. A model of the user's own is, once: what it is nobody else knows, and a loader that
    fails would fail after hours of work on the others. The store remembers what it said.

    Args:
        study: With the members of its series.
        refused: Is told of members.

    Raises:
        IndexscopeError: There is no such model, or it cannot be used.
    """
    origins: dict[str, tuple[Origin, Path | None, CheckpointInfo | None]] = {}
    marked: dict[str, Checkpoint] = {}
    found: list[ModelPlan] = []
    for model in study.measured:
        with refused.of(model.name):
            origins[model.name] = _origin(study, model)
    for name, (origin, _, _) in origins.items():
        with refused.of(name):
            marked[name] = Checkpoint(name, origin, origin.fingerprint(study.fingerprint))
    for name, checkpoint in marked.items():
        _, tokenizer, info = origins[name]
        role: Literal["baseline", "candidate"] = "baseline" if name == study.baseline.name else "candidate"
        with refused.of(name):
            found.append(ModelPlan(role, checkpoint, info or _asked(study, checkpoint), tokenizer))
    return tuple(found)


def _origin(study: Study, model: ModelRef) -> tuple[Origin, Path | None, CheckpointInfo | None]:
    """Where a model comes from, the folder of its tokenizer, and what it says of itself without being loaded."""
    if model.edit is not None:
        return _edited(study, model.name, model.edit, _edited_model(study, model, model.edit))
    if model.path:
        folder = resolve(model.path)
        info = describe(folder)
        if model.indexer:
            with _naming(model.name):
                origin, info = laid_over(folder, info, model.indexer, model.topk)
            return origin, folder, info
        return CheckpointFolder(str(folder)), folder, info
    from indexscope.storage.inputs.own.loading import own_model

    own = own_model(model.loader, Path(model.root), model.weights or None, model.arguments)
    return own, resolve(model.tokenizer) if model.tokenizer else None, None


def _edited(
    study: Study, name: str, edit: ModelEdit, of: ModelRef
) -> tuple[Origin, Path | None, CheckpointInfo | None]:
    """An edit of a checkpoint is tried on its modules alone; of other models, when that is asked what it is."""
    origin, folder, info = _origin(study, of)
    change = edit.plain
    if info is None or not isinstance(origin, CheckpointFolder):
        return EditedModel(origin, change), folder, None
    with _naming(name):
        return EditedModel(origin, change), folder, edited_info(_skeleton(origin.folder), change, info)


def _edited_model(study: Study, model: ModelRef, edit: ModelEdit) -> ModelRef:
    """What is edited: a checkpoint that the edit names, the one under this indexer, or the baseline."""
    if edit.of:
        return ModelRef.model_validate(edit.of)
    return model.model_copy(update={"edit": None}) if model.indexer else study.baseline


@lru_cache(maxsize=2)
def _skeleton(folder: str) -> PreTrainedModel:
    from indexscope.storage.inputs.model_skeleton import load_skeleton

    return load_skeleton(Path(folder))


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Say of ten variants of a model which one it was."""
    try:
        yield
    except IndexscopeError as error:
        raise IndexscopeError(f"{name}: {error.where}", error.reason, error.remedy) from error


def _asked(study: Study, checkpoint: Checkpoint) -> CheckpointInfo:
    from indexscope.storage.inputs.own.told import remember, remembered

    store = Store(study.store)
    told = remembered(store, checkpoint.fingerprint)
    if told is None:
        try:
            with _naming(checkpoint.name):
                told = ask(checkpoint, study.extract)
        finally:
            release()
        remember(store, checkpoint.fingerprint, told)
    return told
