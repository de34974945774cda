"""A model is loaded as it was saved, quietly, or refused in one line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs import weight_checks
from indexscope.storage.inputs.checkpoints import load_model, resolve_device

Weights = dict[str, torch.Tensor]


def rewrite(folder: Path, change: Callable[[Weights], Any]) -> Path:
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def configure(folder: Path, **changes: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def refused(folder: Path, **settings: Any) -> str:
    with pytest.raises(IndexscopeError) as caught:
        load_model(folder, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("family", ["llama", "gpt2", "deepseek_v32"])
def test_every_weight_is_the_one_that_was_saved(checkpoint: Callable[..., Path], family: str) -> None:
    folder = checkpoint(family)
    expected = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    model = load_model(folder)
    loaded = model.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.device.type for parameter in model.parameters()} == {resolve_device("auto")}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_take_the_type_asked_for_whatever_the_file_holds(checkpoint: Callable[..., Path], dtype: str) -> None:
    folder = rewrite(checkpoint(), lambda weights: weights.update({k: v.bfloat16() for k, v in weights.items()}))
    model = load_model(folder, dtype, "cpu")  # type: ignore[arg-type]
    assert {str(parameter.dtype) for parameter in model.parameters()} == {f"torch.{dtype}"}


def test_sharded_weights_are_the_same_model(checkpoint: Callable[..., Path]) -> None:
    whole = load_model(checkpoint(name="whole")).state_dict()
    cut = load_model(checkpoint(name="cut", max_shard_size="20KB")).state_dict()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_loading_prints_nothing_and_leaves_the_settings_of_others_alone(
    checkpoint: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = rewrite(checkpoint("gpt2"), lambda weights: weights.update(extra=torch.zeros(3)))
    configure(folder, bos_token_id=50256, eos_token_id=50256)
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    capfd.readouterr()
    logging.getLogger("indexscope.storage").setLevel(logging.CRITICAL)
    load_model(folder)
    logging.getLogger("indexscope.storage").setLevel(logging.NOTSET)
    assert capfd.readouterr() == ("", "")
    assert transformers_logging.get_verbosity() == verbosity
    assert transformers_logging.is_progress_bar_enabled() == bars


def test_a_weight_that_the_model_does_not_use_is_told_in_the_log(
    checkpoint: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    load_model(rewrite(checkpoint(), lambda weights: weights.update(mtp=torch.zeros(3))))
    assert "does not use: 1, first mtp" in caplog.text


def test_a_missing_weight_is_an_error_and_never_random(checkpoint: Callable[..., Path]) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    folder = rewrite(checkpoint(), lambda weights: weights.pop(name))
    assert f"1, first {name}" in refused(folder)


def test_an_indexer_without_weights_is_an_error(checkpoint: Callable[..., Path]) -> None:
    def strip(weights: Weights) -> None:
        for name in [name for name in weights if ".indexer." in name]:
            del weights[name]

    assert "indexer" in refused(rewrite(checkpoint("deepseek_v32"), strip))


def test_a_weight_of_another_shape_is_an_error(checkpoint: Callable[..., Path]) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    folder = rewrite(checkpoint(), lambda weights: weights.update({name: torch.zeros(3, 32)}))
    assert f"{name} has shape (3, 32) where config.json asks for (64, 32)" in refused(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name_and_number(
    checkpoint: Callable[..., Path], value: float
) -> None:
    def poison(weights: Weights) -> None:
        weights["model.norm.weight"][3:5] = value

    assert "model.norm.weight has 2 of 32 elements" in refused(rewrite(checkpoint(), poison))


def test_a_stored_buffer_that_is_not_finite_is_refused(checkpoint: Callable[..., Path]) -> None:
    name = "model.layers.1.mlp.gate.e_score_correction_bias"
    folder = rewrite(checkpoint("deepseek_v32"), lambda weights: weights[name].fill_(float("nan")))
    assert f"{name} has 4 of 4 elements" in refused(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_the_last_element_of_any_type_is_looked_at(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_checks, "CHECKED_AT_ONCE", 4)
    model = torch.nn.Module()
    model.empty = torch.nn.Parameter(torch.zeros(0))
    model.weight = torch.nn.Parameter(torch.ones(9).to(dtype), requires_grad=False)
    weight_checks.check_finite(model, "here")
    model.weight[-1] = float("nan")
    with pytest.raises(IndexscopeError, match="here: weight weight has 1 of 9 elements"):
        weight_checks.check_finite(model, "here")


def test_weights_that_a_layer_would_not_use_are_refused(checkpoint: Callable[..., Path]) -> None:
    # The indexers' weights with the configuration of a dense model: it would be studied without them.
    folder = configure(checkpoint("deepseek_v32"), model_type="deepseek_v3", architectures=["DeepseekV3ForCausalLM"])
    assert "weights that its layers would not use" in refused(folder)
    assert ".indexer." in refused(folder)
    scaled = checkpoint("llama", name="scaled")
    name = "model.layers.0.mlp.up_proj.weight_scale_inv"
    assert name in refused(rewrite(scaled, lambda weights: weights.update({name: torch.ones(1)})))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_model_too_large_for_memory_is_one_clear_line(
    checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    folder = checkpoint()
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    assert "does not fit into the memory of cpu; use dtype bfloat16" in refused(folder)


def test_a_type_too_small_for_the_weights_is_refused(checkpoint: Callable[..., Path]) -> None:
    folder = rewrite(checkpoint(), lambda weights: weights["model.norm.weight"].fill_(1e6))
    load_model(folder)
    assert "float32" in refused(folder, dtype="float16")


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_truncated_file_is_named(checkpoint: Callable[..., Path], kept: int) -> None:
    file = checkpoint() / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert "model.safetensors: is truncated" in refused(file.parent)


def test_a_missing_shard_is_named(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint(max_shard_size="20KB")
    shard = sorted(folder.glob("*.safetensors"))[1]
    shard.unlink()
    assert f"weight files, first {shard.name}" in refused(folder)


def test_a_header_that_is_cut_or_garbled_is_named(checkpoint: Callable[..., Path]) -> None:
    file = checkpoint() / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes((1 << 40).to_bytes(8, "little") + whole[8:])
    assert "model.safetensors: is truncated" in refused(file.parent)
    file.write_bytes(whole[:8] + b"#" + whole[9:])
    assert "unreadable safetensors header" in refused(file.parent)


def test_pickled_weights_are_refused_unread(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pickle" in refused(folder)


def test_code_of_a_checkpoint_is_never_run(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint()
    (folder / "evil.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()\nclass Evil: pass")
    configure(folder, auto_map={"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"})
    # A family that transformers knows is loaded with transformers' own code.
    assert type(load_model(folder)).__module__.startswith("transformers.")
    assert "needs code of its own" in refused(configure(folder, model_type="evil"))
    assert not (folder / "ran").exists()


def test_configurations_that_cannot_work_are_one_clear_line(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint()
    assert "hidden_size" in refused(configure(folder, hidden_size="wide"))
    assert "transformers_weights" in refused(configure(folder, hidden_size=32, transformers_weights="x.safetensors"))
    assert "unknown to transformers" in refused(configure(folder, model_type="nosuchmodel"))
    (folder / "config.json").write_text('{"model_type": "t5"}')
    assert "causal language model" in refused(folder)


def test_an_adapter_beside_a_model_is_refused(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint()
    (folder / "adapter_config.json").write_text("{}")
    assert "adapter" in refused(folder)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "", "cpu:x"])
def test_a_device_that_is_not_here_is_one_clear_line(device: str) -> None:
    with pytest.raises(IndexscopeError, match="device"):
        resolve_device(device)


def test_an_unknown_dtype_is_one_clear_line(checkpoint: Callable[..., Path]) -> None:
    assert "float32, bfloat16, float16" in refused(checkpoint(), dtype="int4")


def test_loads_in_several_threads_do_not_disturb_each_other(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint()
    dtypes = ["float32", "bfloat16", "float16"] * 4
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda dtype: load_model(folder, dtype, "cpu"), dtypes))
    assert [str(next(model.parameters()).dtype) for model in models] == [f"torch.{dtype}" for dtype in dtypes]
    assert torch.get_default_dtype() == torch.float32
