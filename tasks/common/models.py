"""A worker's model: loaded once per process, however many shards and threads use it."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from indexscope import IndexscopeError
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.fingerprints import FingerprintMode
from indexscope.tasks.common.origin import Checkpoint

if TYPE_CHECKING:
    from indexscope.analysis.capture.source import Source
    from indexscope.storage.inputs.checkpoints import CheckpointInfo


_lock = threading.Lock()
#: The last model asked for, or why it could not be loaded. Models are worked on one after another, so one is enough.
_held: tuple[tuple[str, str, str, str], Source | IndexscopeError] | None = None


@dataclass(frozen=True)
class _Elsewhere:
    """What holds for a process on a machine where the study was not planned."""

    cores: int
    fingerprint: FingerprintMode


_elsewhere: _Elsewhere | None = None


def away_from_home(cores: int, fingerprint: FingerprintMode) -> None:
    """Say that this process has cores of its own, on a machine whose checkpoints nobody has looked at.

    Args:
        cores: How many; nobody shares them.
        fingerprint: How much of a checkpoint is hashed before it is loaded.
    """
    global _elsewhere
    _elsewhere = _Elsewhere(cores, fingerprint)


def borrow(checkpoint: Checkpoint, settings: ExtractSettings) -> Source:
    """The checkpoint's model, ready for capture; shared by the threads of this process.

    Raises:
        IndexscopeError: It cannot be loaded or captured. A second job gets the same answer without a second try.
    """
    global _held
    where = checkpoint.placement or settings.placement
    wanted = (checkpoint.fingerprint, settings.dtype, settings.device, where)
    with _lock:
        if _held is None or _held[0] != wanted:
            _held = None  # let go of the old model before the new one needs its memory
            _held = (wanted, _load(checkpoint, settings))
        model = _held[1]
    if isinstance(model, IndexscopeError):
        raise model
    return model


def ask(checkpoint: Checkpoint, settings: ExtractSettings) -> CheckpointInfo:
    """What a model says of itself once it is loaded, for a study's plan.

    Raises:
        IndexscopeError: It cannot be loaded or captured.
    """
    from torch import nn
    from transformers import PreTrainedModel

    from indexscope.analysis.capture.facts import parameters
    from indexscope.storage.inputs.checkpoints import CheckpointInfo, rope_of, told_by_config

    source = borrow(checkpoint, settings)
    model: Any = getattr(source, "model", source)
    of_transformers = isinstance(model, PreTrainedModel)
    told = told_by_config(model.config.to_dict()) if of_transformers else CheckpointInfo(source.family)
    return replace(
        told,
        parameters=parameters(model) if isinstance(model, nn.Module) else 0,
        vocab_size=source.vocabulary,
        max_positions=getattr(source, "trained_length", source.max_length),
        index_topk=source.index_topk,
        selects_all_of=told.selects_all_of or source.index_topk,
        rope=rope_of(model.config) if of_transformers else None,
        own_code=not of_transformers,
    )


def release() -> None:
    """Let go of the model."""
    global _held
    with _lock:
        _held = None


def _load(checkpoint: Checkpoint, settings: ExtractSettings) -> Source | IndexscopeError:
    from indexscope.analysis.capture.protocol import as_source

    try:
        if _elsewhere is not None:
            _check_same(checkpoint, _elsewhere.fingerprint)
        model = _placed(checkpoint, settings)
        with checkpoint.origin.told():
            return as_source(model)  # type: ignore[arg-type]  # which says what it takes
    except IndexscopeError as error:
        return error


def _placed(checkpoint: Checkpoint, settings: ExtractSettings) -> object:
    from indexscope.tasks.common.log import tell
    from indexscope.tasks.common.placing import placed, placement

    kind = checkpoint.placement
    if kind is None:
        chosen = placement(checkpoint.origin, settings)
        kind = chosen.kind
        if chosen.why:
            tell(f"{checkpoint.name} is {chosen.why}")
    return placed(checkpoint.origin, settings, kind)


def _check_same(checkpoint: Checkpoint, mode: FingerprintMode) -> None:
    """Refuse a model that is another one here than where the study was planned."""
    here = f"{checkpoint.name} on {socket.gethostname()}"
    remedy = "bring the same files to every machine, under one path (docs/clusters.md)"
    try:
        found = checkpoint.origin.fingerprint(mode)
    except IndexscopeError as error:
        raise IndexscopeError(f"{here}: {error.where}", error.reason, remedy) from error
    if found != checkpoint.fingerprint:
        reason = f"is another model than the study names (fingerprint {found[:12]}, not {checkpoint.fingerprint[:12]})"
        raise IndexscopeError(here, reason, remedy)


def share_cores(workers: int) -> None:
    """Give the calling worker its share of the cores, so that workers together do not fight over them."""
    import torch

    own = cores() // max(1, workers) if _elsewhere is None else _elsewhere.cores
    torch.set_num_threads(max(1, own))


def cores() -> int:
    """Cores that this process may use: at most OMP_NUM_THREADS, where the user or a scheduler has set that.

    Threads that outnumber their cores wait for each other in every operation; small models then run ten times slower.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(there, int(allowed)) if allowed.isdecimal() and int(allowed) else there
