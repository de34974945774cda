"""Loading a checkpoint over several devices: each weight goes to its own, and none is taken unseen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from polars.testing import assert_frame_equal

from indexscope import IndexscopeError
from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.dispatched import MEMORY, DeviceMap, device_map, load_dispatched
from indexscope.storage.inputs.model_loading import load_model
from indexscope.storage.inputs.model_skeleton import load_skeleton
from tests.analysis.capture.tiny_architectures import tiny
from tests.analysis.capture.tiny_families import FAMILIES
from tests.analysis.samples import samples

pytest.importorskip("accelerate")


def mapped(folder: Path) -> DeviceMap:
    """The last layers and the output head in memory."""
    model = load_skeleton(folder)
    names = [name for name, _ in model.named_modules()]
    layers = [name for name in names if name.rpartition(".")[2].isdigit() and name.count(".") == 2]
    parts = {"": "cpu", **dict.fromkeys(layers, "cpu"), **dict.fromkeys(layers[1:], MEMORY), "lm_head": MEMORY}
    return device_map(model, {name: where for name, where in parts.items() if name}, "cpu")


@pytest.mark.parametrize("name", ["deepseek_v32", "llama", "mixtral"])
def test_a_checkpoint_over_devices_is_the_one_that_is_loaded_whole(name: str, tmp_path: Path) -> None:
    (FAMILIES[name]() if name in FAMILIES else tiny(name)).save_pretrained(tmp_path)
    model, settings = load_dispatched(tmp_path, "float32", mapped(tmp_path)), ExtractSettings(chunk=16)
    assert {parameter.is_meta for parameter in model.parameters()} == {True, False}
    assert not any(parameter.requires_grad for parameter in model.parameters()) and not model.training
    found = extract_samples(model, samples(40), settings)
    for table, frame in extract_samples(load_model(tmp_path), samples(40), settings).items():
        assert_frame_equal(found[table], frame, check_exact=True)


def test_a_weight_in_memory_that_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    model = tiny("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    model.save_pretrained(tmp_path)
    with pytest.raises(IndexscopeError, match=r"layers.1.mlp.up_proj.weight has 1 of \d+ elements that are NaN"):
        load_dispatched(tmp_path, "float32", mapped(tmp_path))


def test_bytes_and_layers_are_told_by_device() -> None:
    found = DeviceMap("cuda:0", {}, {"cuda:0": (0, 1, 2), MEMORY: (3,)}, {"cuda:0": 3, MEMORY: 1, "cuda:1": 7})
    assert found.told(str) == (
        "cuda:0 holds layers 0 to 2, 3; memory holds layer 3, 1, copied to cuda:0 for every chunk; cuda:1 holds 7"
    )
