from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.capture import CapturedModel, capture_sparse
from indexscope.analysis.capture.streaming.model import StreamedModel
from indexscope.storage.inputs.checkpoints import load_model
from indexscope.storage.inputs.model_skeleton import Dtype
from indexscope.storage.inputs.streamed.spilled import SpilledStates
from indexscope.storage.inputs.streamed.weights import StreamedWeights
from tests.analysis.capture.tiny_architectures import tiny
from tests.analysis.capture.tiny_families import FAMILIES, deepseek_v32, tokens
from tests.storage.inputs.test_load_families import minimax_that_sees, qwen4_that_sees

# Tied embeddings, fused and split weights, experts, learned positions, multi-head latents, recurrent layers.
DENSE = ["llama", "qwen3_moe", "gemma3_text", "gpt2", "gpt_oss", "phi3", "mixtral", "deepseek_v3", "opt", "qwen3_next"]


def built(name: str) -> PreTrainedModel:
    if name in FAMILIES:
        return FAMILIES[name]()
    return {"qwen4_sees": qwen4_that_sees, "minimax_sees": minimax_that_sees}.get(name, lambda: tiny(name))()


def logits(source: CapturedModel) -> torch.Tensor:
    return torch.cat([logits for _, logits in source.run(tokens(), capture_sparse, 16)], 1)


@pytest.mark.parametrize("name", [*FAMILIES, "qwen4_sees", "minimax_sees", *DENSE])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_checkpoint_read_part_by_part_gives_the_bits_of_one_that_is_loaded(
    name: str, dtype: Dtype, tmp_path: Path
) -> None:
    built(name).save_pretrained(tmp_path, max_shard_size="50kB")
    weights = StreamedWeights(tmp_path, dtype, "cpu")
    streamed = StreamedModel(weights, SpilledStates(0))
    assert torch.equal(logits(streamed), logits(CapturedModel(load_model(tmp_path, dtype, "cpu"))))
    coming = [*weights.layers, weights.model.get_input_embeddings()]
    assert all(parameter.is_meta for part in coming for parameter in part.parameters())


def test_a_sweep_reads_every_weight_once(tmp_path: Path) -> None:
    deepseek_v32().save_pretrained(tmp_path)
    weights = StreamedWeights(tmp_path, device="cpu")
    streamed = StreamedModel(weights)
    streamed.side_by_side([lambda: logits(streamed)] * 3)
    assert weights.bytes_read == sum(
        tensor.numel() * 4 for tensor in load_file(tmp_path / "model.safetensors").values()
    )
    assert sum(map(weights.stored_bytes, weights.layers)) < weights.bytes_read


def test_experts_are_fused_layer_by_layer_as_the_loader_fuses_them(tmp_path: Path) -> None:
    built("axk2").save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert any(".experts.0." in name for name in stored), "the files hold the experts one by one"
    weights = StreamedWeights(tmp_path, device="cpu")
    whole = load_model(tmp_path, device="cpu")
    weights.load(weights.layers[2])
    found = dict(weights.layers[2].named_parameters())
    expected = {
        name.partition("layers.2.")[2]: value for name, value in whole.named_parameters() if "layers.2." in name
    }
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    size = sum(value.numel() * value.element_size() for value in expected.values())
    assert size <= weights.bytes_of(weights.layers[2])


def changed(folder: Path, change) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


FAULTS = {
    "lacks weights that the model needs: 1, first model.layers.1.mlp.up_proj.weight": lambda w: {
        name: value for name, value in w.items() if name != "model.layers.1.mlp.up_proj.weight"
    },
    "weight model.layers.1.mlp.up_proj.weight has shape": lambda w: {
        **w, "model.layers.1.mlp.up_proj.weight": torch.zeros(3, 3),
    },
    "has weights that its layers would not use: 1, first model.layers.1.mlp.more.weight": lambda w: {
        **w, "model.layers.1.mlp.more.weight": torch.zeros(3, 3),
    },
}  # fmt: skip


@pytest.mark.parametrize("told", FAULTS)
def test_what_does_not_fit_the_model_is_told_before_a_weight_is_read(told: str, tmp_path: Path) -> None:
    deepseek_v32().save_pretrained(tmp_path)
    changed(tmp_path, FAULTS[told])
    for load in (load_model, StreamedWeights):
        with pytest.raises(IndexscopeError, match=told):
            load(tmp_path, device="cpu")


def test_a_weight_that_is_not_finite_ends_the_run_by_its_name(tmp_path: Path) -> None:
    deepseek_v32().save_pretrained(tmp_path)
    name = "model.layers.1.mlp.up_proj.weight"

    def spoilt(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights[name][0, :3] = torch.nan
        return weights

    changed(tmp_path, spoilt)
    with pytest.raises(IndexscopeError, match=f"weight {name} has 3 of"):
        logits(StreamedModel(StreamedWeights(tmp_path, device="cpu")))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    deepseek_v32().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(IndexscopeError, match="truncated"):
        StreamedWeights(tmp_path, device="cpu")


def test_a_type_that_nobody_knows_is_refused_by_name(tmp_path: Path) -> None:
    deepseek_v32().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["lm_head.weight"]["dtype"] = "Q9"
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(IndexscopeError, match=r"weight lm_head.weight is stored as Q9"):
        StreamedWeights(tmp_path, device="cpu")
