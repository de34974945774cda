"""On another machine a checkpoint is looked at before it is loaded, and cores are the worker's own."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from indexscope import IndexscopeError
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.checkpoints import CheckpointFolder
from indexscope.tasks.common import models
from indexscope.tasks.common.models import away_from_home, borrow, release, share_cores
from indexscope.tasks.common.origin import Checkpoint
from tests.tiny import save_model

SETTINGS = ExtractSettings(device="cpu")


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkpoint]:
    """A model as it was when the study was planned; this process is elsewhere then."""
    folder = tmp_path / "model"
    save_model(folder, heads=1, seed=0)
    origin = CheckpointFolder(str(folder))
    monkeypatch.setattr(models, "_elsewhere", None)
    release()
    away_from_home(1, "sampled")
    yield Checkpoint("base", origin, origin.fingerprint("sampled"))
    release()


def test_the_model_of_the_study_is_loaded(planned: Checkpoint) -> None:
    assert borrow(planned, SETTINGS) is borrow(planned, SETTINGS)


def test_another_model_under_the_same_path_is_refused_before_it_is_loaded(
    planned: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "model" / "model.safetensors"
    tensors = load_file(weights)
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, weights, metadata={"format": "pt"})
    monkeypatch.setattr(CheckpointFolder, "load", lambda *_: pytest.fail("it was loaded"))
    found = planned.origin.fingerprint("sampled")
    expected = f"base on {socket.gethostname()}: is another model than the study names (fingerprint {found[:12]}, not"
    with pytest.raises(IndexscopeError, match=re.escape(expected)):
        borrow(planned, SETTINGS)


def test_a_model_that_is_not_there_is_told_with_the_machine(planned: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "model").rename(tmp_path / "moved")
    with pytest.raises(IndexscopeError, match=re.escape(f"base on {socket.gethostname()}: ")) as told:
        borrow(planned, SETTINGS)
    assert told.value.remedy.startswith("bring the same files to every machine")


def test_cores_of_a_worker_are_shared_with_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(models, "cores", lambda: 8)
    monkeypatch.setattr(models, "_elsewhere", None)
    share_cores(4)
    away_from_home(3, "sampled")
    share_cores(4)
    assert taken == [2, 3]
