"""Whether a checkpoint that a training may still be writing is complete."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from indexscope.storage.inputs.complete import stamp, unfinished

NOW = 2_000_000_000.0


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Config and two weight files with an index, last changed an hour ago."""
    folder = tmp_path / "step-100"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    names = ["model-1.safetensors", "model-2.safetensors"]
    for name in names:
        save_file({name: torch.zeros(8)}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {name: name for name in names}}))
    age(folder, 3600)
    return folder


def age(folder: Path, seconds: float) -> None:
    for file in folder.iterdir():
        os.utime(file, (NOW - seconds, NOW - seconds))


def told(folder: Path, settled_for: float = 10.0) -> str:
    return unfinished(folder, "checkpoint", settled_for, NOW)


def test_a_whole_checkpoint_that_has_settled_is_complete(checkpoint: Path) -> None:
    assert told(checkpoint) == ""


def test_a_checkpoint_without_its_configuration_is_not(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    assert told(checkpoint) == "has no config.json"


def test_a_checkpoint_whose_index_names_a_missing_file_is_not(checkpoint: Path) -> None:
    (checkpoint / "model-2.safetensors").unlink()
    assert told(checkpoint) == "lacks 1 of 2 weight files, first model-2.safetensors"


@pytest.mark.parametrize("kept", [0, 4, 40, -1])
def test_a_weight_file_that_is_shorter_than_its_header_says_is_not(checkpoint: Path, kept: int) -> None:
    file = checkpoint / "model-2.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    age(checkpoint, 3600)
    assert told(checkpoint).startswith("is not whole (model-2.safetensors is truncated")


def test_a_checkpoint_whose_files_changed_a_moment_ago_is_not(checkpoint: Path) -> None:
    age(checkpoint, 9.0)
    assert told(checkpoint) == "changed less than 10 s ago"
    assert told(checkpoint, 9.0) == ""


def test_a_configuration_that_is_half_written_is_told_as_such(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text('{"model_ty')
    age(checkpoint, 3600)
    assert "config.json" in told(checkpoint)


def test_an_empty_folder_and_a_file_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "step-1").mkdir()
    (tmp_path / "step-2").write_text("")
    assert told(tmp_path / "step-1") == "has no config.json"
    assert told(tmp_path / "step-2") == "is no folder"


def test_a_fitted_indexer_needs_both_of_its_files(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "indexer.safetensors")
    assert unfinished(tmp_path, "indexer", 0.0, NOW) == "has no indexer.json"
    (tmp_path / "indexer.json").write_text("{}")
    assert unfinished(tmp_path, "indexer", 0.0, NOW * 2) == ""


def test_a_file_of_ones_own_is_judged_by_its_header_where_it_has_one(tmp_path: Path) -> None:
    file = tmp_path / "step-1.safetensors"
    save_file({"w": torch.zeros(64)}, file)
    assert unfinished(file, "any", 0.0, NOW * 2) == ""
    file.write_bytes(file.read_bytes()[:-8])
    assert unfinished(file, "any", 0.0, NOW * 2).startswith("is truncated or damaged")


def test_the_stamp_of_a_checkpoint_changes_with_any_of_its_files_and_with_nothing_else(checkpoint: Path) -> None:
    first = stamp(checkpoint)
    assert len(first) == 4 and stamp(checkpoint) == first
    file = checkpoint / "model-2.safetensors"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes())  # as large as before, later
    assert file.stat().st_size == size and stamp(checkpoint) != first
    assert len(stamp(file)) == 1 and stamp(checkpoint / "nothing") == frozenset()
