"""Checkpoints in DeepSeek's float8 with a scale for each block of a weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

from indexscope import IndexscopeError
from indexscope.analysis.capture import CapturedModel, capture_sparse
from indexscope.analysis.capture.streaming.model import StreamedModel
from indexscope.storage.inputs.checkpoints import describe
from indexscope.storage.inputs.model_loading import load_model
from indexscope.storage.inputs.model_skeleton import Dtype
from indexscope.storage.inputs.streamed.weights import StreamedWeights
from tests.analysis.capture.tiny_families import FAMILIES, deepseek_v32, tokens

#: Cut off at the edges of most weights, whose sides are multiples of 8.
BLOCKS = (20, 14)


def quantised(folder: Path, blocks: tuple[int, int] = BLOCKS, **told: Any) -> dict[str, torch.Tensor]:
    """Store a checkpoint's projections in float8; what they then stand for, in float64, by name."""
    stored, meant = load_file(folder / "model.safetensors"), {}
    for name, weight in list(stored.items()):
        if weight.ndim != 2 or "proj" not in name or "indexer.weights" in name:
            meant[name] = weight.double()
            continue
        scale = np.zeros([-(-size // block) for size, block in zip(weight.shape, blocks, strict=True)])
        coarse, exact = torch.zeros(weight.shape, dtype=torch.float8_e4m3fn), torch.zeros(weight.shape).double()
        for i, j in np.ndindex(*scale.shape):
            rows, columns = (slice(at * block, (at + 1) * block) for at, block in zip((i, j), blocks, strict=True))
            # A scale of its own for each block, so that one that is misplaced shows.
            scale[i, j] = np.float32(float(weight[rows, columns].abs().max()) / 448 * (1 + 0.01 * (3 * i + j)))
            coarse[rows, columns] = (weight[rows, columns] / scale[i, j]).to(torch.float8_e4m3fn)
            exact[rows, columns] = coarse[rows, columns].double() * scale[i, j]
        stored[name], meant[name] = coarse, exact
        stored[f"{name}_scale_inv"] = torch.from_numpy(scale).float()
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": list(blocks), **told,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return meant


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["deepseek_v32", "glm_moe_dsa", "mistral_large4", "qwen4_exp"])
def test_float8_loads_as_what_it_stands_for_and_streams_to_the_same_bits(
    name: str, dtype: Dtype, tmp_path: Path
) -> None:
    FAMILIES[name]().save_pretrained(tmp_path)
    meant = quantised(tmp_path)
    assert any(name.endswith("proj.weight") and value.shape[0] % BLOCKS[0] for name, value in meant.items()), (
        "a cut block"
    )
    plain = tmp_path / "plain"
    FAMILIES[name]().save_pretrained(plain)
    save_file({k: v.float() for k, v in meant.items()}, plain / "model.safetensors", metadata={"format": "pt"})
    found, expected = load_model(tmp_path, dtype, "cpu"), load_model(plain, dtype, "cpu")
    wanted = dict(expected.named_parameters())
    for parameter, value in found.named_parameters():
        assert value.dtype == wanted[parameter].dtype
        assert torch.equal(value, wanted[parameter]), parameter
    assert "quantization_config" not in found.config.to_dict()
    streamed = StreamedModel(StreamedWeights(tmp_path, dtype, "cpu"))
    one, other = (
        torch.cat([logits for _, logits in source.run(tokens(), capture_sparse, 16)], 1)
        for source in (streamed, CapturedModel(found))
    )
    assert torch.equal(one, other)


def test_whole_blocks_are_multiplied_out_as_transformers_does(tmp_path: Path) -> None:
    deepseek_v32(hidden_size=64, kv_lora_rank=24).save_pretrained(tmp_path)
    quantised(tmp_path, (8, 16))
    stored, found = load_file(tmp_path / "model.safetensors"), load_model(tmp_path, "bfloat16", "cpu")
    own, compared = Fp8Dequantize(None), 0
    for name, weight in found.named_parameters():
        scales = stored.get(f"{name}_scale_inv")
        if scales is not None and not stored[name].shape[0] % 8 and not stored[name].shape[1] % 16:
            assert torch.equal(weight, own._dequantize_one(stored[name], scales, output_dtype=torch.bfloat16)), name
            compared += 1
    assert compared > 10


def test_what_is_told_of_a_float8_checkpoint_counts_its_weights(tmp_path: Path) -> None:
    deepseek_v32().save_pretrained(tmp_path)
    quantised(tmp_path)
    assert describe(tmp_path).dtypes[0] == "F8_E4M3"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"quant_method": "mystery"}, "quant_method 'mystery' is unknown to transformers"),
        ({"fmt": "e5m2"}, "quantization_config: float8 of fmt 'e5m2'"),
        ({"weight_block_size": [0, 16]}, "quantization_config: float8 of fmt 'e4m3' in blocks of [0, 16]"),
    ],
)
def test_any_other_storage_is_refused_by_name(told: dict[str, Any], said: str, tmp_path: Path) -> None:
    deepseek_v32().save_pretrained(tmp_path)
    quantised(tmp_path, **told)
    for load in (load_model, StreamedWeights):
        with pytest.raises(IndexscopeError, match="quantization_config") as refused:
            load(tmp_path, device="cpu")
        assert said in str(refused.value)


def test_scales_of_another_grid_are_refused_by_their_weight(tmp_path: Path) -> None:
    deepseek_v32().save_pretrained(tmp_path)
    quantised(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    stored["model.layers.1.mlp.up_proj.weight_scale_inv"] = torch.ones(7, 5)
    save_file(stored, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IndexscopeError, match=r"weight model.layers.1.mlp.up_proj.weight cannot be made of what is"):
        load_model(tmp_path, device="cpu")
