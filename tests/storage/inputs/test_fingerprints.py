"""A fingerprint follows the model: not its folder, not its file names, and every tensor of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs import fingerprints
from indexscope.storage.inputs.fingerprints import FingerprintMode, fingerprint
from indexscope.storage.inputs.safetensors_header import read_header

MODES: tuple[FingerprintMode, ...] = ("sampled", "full")


def rewrite(folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights[name] = change(weights[name].clone())
    save_file(weights, file, metadata={"format": "pt"})


def test_a_moved_or_renamed_copy_is_the_same_checkpoint(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = checkpoint()
    copy = tmp_path / "elsewhere" / "other name"
    shutil.copytree(folder, copy)
    (copy / "README.md").write_text("a card changes nothing")
    (copy / "training.bin").write_bytes(b"nor does a file that no load reads")
    assert fingerprint(copy) == fingerprint(folder)
    assert len(fingerprint(folder)) == 64


def test_volatile_keys_of_the_configuration_do_not_count_and_others_do(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint()
    before = fingerprint(folder)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config |= {"_name_or_path": "/somewhere", "transformers_version": "99"}
    file.write_text(json.dumps(dict(reversed(config.items())), indent=7))
    assert fingerprint(folder) == before
    file.write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    assert fingerprint(folder) != before


def sample_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sampled mode sample even a tiny checkpoint."""
    monkeypatch.setattr(fingerprints, "FULL_CHECKPOINT", 0)
    monkeypatch.setattr(fingerprints, "FULL_TENSOR", 64)
    monkeypatch.setattr(fingerprints, "BLOCK", 16)


@pytest.mark.parametrize("element", [0, 511, 1023])
def test_any_changed_number_of_a_small_file_changes_it(checkpoint: Callable[..., Path], element: int) -> None:
    folder = checkpoint()
    before = fingerprint(folder)

    def nudge(weight: torch.Tensor) -> torch.Tensor:
        weight.view(-1)[element] += 1e-3
        return weight

    rewrite(folder, "model.layers.1.self_attn.q_proj.weight", nudge)
    assert fingerprint(folder) != before


def test_in_a_large_file_every_tensor_counts(checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    sample_small(monkeypatch)
    folder = checkpoint()
    original = (folder / "model.safetensors").read_bytes()
    seen = {fingerprint(folder)}
    names = sorted(load_file(folder / "model.safetensors"))
    for name in names:
        (folder / "model.safetensors").write_bytes(original)
        rewrite(folder, name, lambda weight: weight * 1.001)
        seen.add(fingerprint(folder))
    assert len(seen) == 1 + len(names)


@pytest.mark.parametrize(
    ("element", "covered"), [(0, True), (3, True), (510, True), (513, True), (1023, True), (200, False)]
)
def test_full_mode_sees_what_lies_between_the_sampled_blocks(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, element: int, covered: bool
) -> None:
    sample_small(monkeypatch)  # of 1,024 float32 numbers: 0 to 3, 510 to 513 and 1,020 to 1,023
    folder = checkpoint()
    before = {mode: fingerprint(folder, mode) for mode in MODES}
    assert before["sampled"] != before["full"]

    def nudge(weight: torch.Tensor) -> torch.Tensor:
        assert weight.numel() == 1024
        assert weight.dtype == torch.float32
        weight.view(-1)[element] += 1e-3
        return weight

    rewrite(folder, "model.layers.1.self_attn.q_proj.weight", nudge)
    assert (fingerprint(folder) != before["sampled"]) == covered
    assert fingerprint(folder, "full") != before["full"]


def test_modes_agree_where_both_hash_everything(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint()
    assert fingerprint(folder, "full") == fingerprint(folder, "sampled")


@pytest.mark.parametrize("mode", MODES)
def test_names_shapes_and_dtypes_count_where_the_bytes_are_the_same(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, mode: FingerprintMode
) -> None:
    sample_small(monkeypatch)
    folder = checkpoint()
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = "model.layers.1.self_attn.q_proj.weight"
    prints = {fingerprint(folder, mode)}
    for changed in (
        {**weights, name: weights[name].reshape(-1, 8)},
        {**weights, name: weights[name].view(torch.int32)},
        {("x" if key == name else key): value for key, value in weights.items()},
        {key: value for key, value in weights.items() if key != name},
    ):
        save_file(changed, file)
        prints.add(fingerprint(folder, mode))
    assert len(prints) == 5


@pytest.mark.parametrize("mode", MODES)
def test_spreading_the_same_tensors_over_other_files_changes_nothing(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, mode: FingerprintMode
) -> None:
    sample_small(monkeypatch)
    folder = checkpoint()
    before = fingerprint(folder, mode)
    file = folder / "model.safetensors"
    weights = load_file(file)
    names = list(weights)
    file.unlink()
    weight_map = {}
    for part in range(3):
        held = {name: weights[name] for name in names[part::3]}
        save_file(held, folder / f"part-{part}.safetensors", metadata={"format": "pt", "note": str(part)})
        weight_map |= dict.fromkeys(held, f"part-{part}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert fingerprint(folder, mode) == before


def test_a_large_file_is_read_in_part_only(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"big": torch.zeros(2**18), "small": torch.zeros(4)}, file)
    header = read_header(file)
    blocks = {entry.name: fingerprints._blocks(entry) for entry in header.tensors}
    big = next(entry for entry in header.tensors if entry.name == "big")
    assert [length for _, length in blocks["big"]] == [fingerprints.BLOCK] * 3
    assert blocks["big"][0][0] == big.start
    assert sum(blocks["big"][2]) == big.stop
    assert [length for _, length in blocks["small"]] == [16]


def test_shards_count_whatever_their_names(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = checkpoint(max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    names = {
        name: f"z{20 - number}.safetensors" for number, name in enumerate(sorted(set(index["weight_map"].values())))
    }
    for old, new in names.items():
        shutil.copy(folder / old, renamed / new)
    index["weight_map"] = {weight: names[file] for weight, file in index["weight_map"].items()}
    (renamed / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copy(folder / "config.json", renamed)
    assert fingerprint(renamed) == fingerprint(folder)


def test_a_truncated_file_has_no_fingerprint(checkpoint: Callable[..., Path]) -> None:
    file = checkpoint() / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(IndexscopeError, match="truncated"):
        fingerprint(file.parent)
