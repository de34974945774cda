"""A worker's model: loaded once per process, however many shards and threads use it."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from indexscope import IndexscopeError
from indexscope.analysis.settings import ExtractSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Checkpoint:
    """Which model a job needs, and what people call it."""

    name: str
    folder: str
    fingerprint: str


_lock = threading.Lock()
#: The last model asked for, or why it could not be loaded. Models are worked on one after another, so one is enough.
_held: tuple[tuple[str, str, str], PreTrainedModel | IndexscopeError] | None = None


def borrow(checkpoint: Checkpoint, settings: ExtractSettings) -> PreTrainedModel:
    """The checkpoint's model, ready for capture; shared by the threads of this process.

    Raises:
        IndexscopeError: It cannot be loaded or captured. A second job gets the same answer without a second try.
    """
    global _held
    wanted = (checkpoint.fingerprint, settings.dtype, settings.device)
    with _lock:
        if _held is None or _held[0] != wanted:
            _held = None  # let go of the old model before the new one needs its memory
            _held = (wanted, _load(checkpoint, settings))
        model = _held[1]
    if isinstance(model, IndexscopeError):
        raise model
    return model


def release() -> None:
    """Let go of the model."""
    global _held
    with _lock:
        _held = None


def _load(checkpoint: Checkpoint, settings: ExtractSettings) -> PreTrainedModel | IndexscopeError:
    from indexscope.analysis.capture import CapturedModel
    from indexscope.storage.inputs.checkpoints import load_model

    try:
        model = load_model(Path(checkpoint.folder), settings.dtype, settings.device)
        CapturedModel(model)  # hooks the model in while no other thread looks on
    except IndexscopeError as error:
        return error
    return model


def share_cores(workers: int) -> None:
    """Give the calling worker its share of the cores, so that workers together do not fight over them."""
    import torch

    torch.set_num_threads(max(1, cores() // max(1, workers)))


def cores() -> int:
    """Cores that this process may use: at most OMP_NUM_THREADS, where the user or a scheduler has set that.

    Threads that outnumber their cores wait for each other in every operation; small models then run ten times slower.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(there, int(allowed)) if allowed.isdecimal() and int(allowed) else there
