"""Experts are read as tokens are routed to them, and no number changes."""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, Qwen3MoeConfig, Qwen3MoeForCausalLM

from indexscope import IndexscopeError
from indexscope.analysis.capture import CapturedModel, capture_sparse
from indexscope.analysis.capture.streaming.model import StreamedModel
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.checkpoints import load_model
from indexscope.storage.inputs.safetensors_header import TensorEntry, read_header
from indexscope.storage.inputs.streamed import stacked
from indexscope.storage.inputs.streamed.routed import SPARSE, fused, met
from indexscope.storage.inputs.streamed.weights import StreamedWeights
from indexscope.tasks.common.placing import streaming_plan
from tests.analysis.capture.tiny_architectures import tiny
from tests.analysis.capture.tiny_families import FAMILIES, deepseek_v32
from tests.storage.inputs.streamed.test_sizes import STATUS, most_during
from tests.storage.inputs.test_block_scaled import quantised

#: Experts that are stored one by one, and (gpt_oss) all of a layer in one tensor, with biases.
MODELS = ["deepseek_v32", "glm_moe_dsa", "axk2", "minimax_m3", "qwen4_exp", "hy_v4", "mixtral", "qwen3_moe", "gpt_oss"]
EXPERTS = 16
LAYER = re.compile(r"\.layers\.(\d+)\.")


def many(name: str) -> PreTrainedModel:
    """A tiny model with more experts than a few tokens are routed to."""
    counts = {key: EXPERTS for key in ("n_routed_experts", "num_local_experts", "num_experts")}
    if name not in FAMILIES:
        from transformers import AutoConfig, AutoModelForCausalLM

        from tests.analysis.capture.tiny_architectures import DENSE
        from tests.analysis.conftest import sharpened

        torch.manual_seed(0)
        return sharpened(AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **DENSE[name] | counts)))
    known = FAMILIES[name]().config.to_dict()
    changes: dict[str, Any] = {key: count for key, count in counts.items() if key in known}
    return FAMILIES[name](**changes, **({"first_k_dense_replace": 1} if name == "deepseek_v32" else {}))


def few() -> torch.Tensor:
    return torch.randint(97, (1, 3), generator=torch.Generator().manual_seed(2))


def logits(source: CapturedModel, ids: torch.Tensor | None = None, chunk: int = 2) -> torch.Tensor:
    return torch.cat([part for _, part in source.run(few() if ids is None else ids, capture_sparse, chunk)], 1)


@contextmanager
def called(model: nn.Module) -> Iterator[dict[str, set[int]]]:
    """The experts that tokens are routed to within the block, by module."""
    found: dict[str, set[int]] = defaultdict(set)

    def look(name: str) -> Callable[..., None]:
        return lambda module, args: found[name].update(args[1].unique().tolist())

    hooks = [part.register_forward_pre_hook(look(name)) for name, part in model.named_modules() if fused(part)]
    yield found
    for hook in hooks:
        hook.remove()


@contextmanager
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int, int]]]:
    """Every stretch of a file that experts are read from."""
    found: list[tuple[str, int, int]] = []
    own = stacked._read

    def read(opened: Any, start: int, into: memoryview, file: Path) -> None:
        found.append((file.name, start, start + len(into)))
        own(opened, start, into, file)

    with monkeypatch.context() as patched:
        patched.setattr(stacked, "_read", read)
        yield found


def stored(folder: Path) -> dict[str, tuple[str, TensorEntry]]:
    return {one.name: (file.name, one) for file in folder.glob("*.safetensors") for one in read_header(file).tensors}


def stretches(folder: Path, wanted: dict[str, set[int]]) -> list[tuple[str, int, int]]:
    """Where the files have these experts of these modules, which are named by layer: other names differ."""
    by_layer = {LAYER.search(module)[1]: experts for module, experts in wanted.items()}  # type: ignore[index]
    found = []
    for name, (file, entry) in stored(folder).items():
        layer, expert = LAYER.search(name), re.search(r"\.experts\.(\d+)?", name)
        experts = set() if layer is None or expert is None else by_layer.get(layer[1], set())
        if expert is not None and expert[1] is not None:
            found += [(file, entry.start, entry.stop)] if int(expert[1]) in experts else []
        elif len(entry.shape) == 3:
            size = (entry.stop - entry.start) // entry.shape[0]
            found += [(file, entry.start + one * size, entry.start + (one + 1) * size) for one in experts]
    return sorted(found)


@pytest.mark.parametrize("implementation", SPARSE)
@pytest.mark.parametrize("name", MODELS)
def test_only_the_experts_that_tokens_are_routed_to_are_read_and_the_bits_are_those_of_all(
    name: str, implementation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(name).save_pretrained(tmp_path, max_shard_size="50kB")
    whole = load_model(tmp_path, device="cpu")
    whole.set_experts_implementation(implementation)
    with called(whole) as wanted:
        expected = logits(CapturedModel(whole))
    weights = StreamedWeights(tmp_path, device="cpu")
    weights.model.set_experts_implementation(implementation)
    with reads(monkeypatch) as found:
        assert torch.equal(logits(StreamedModel(weights)), expected)
    assert wanted and all(0 < len(experts) < EXPERTS for experts in wanted.values())
    assert sorted(found) == stretches(tmp_path, wanted), "each of them once, and nothing of the others"
    every = sum(
        stop - start for _, start, stop in stretches(tmp_path, {module: set(range(EXPERTS)) for module in wanted})
    )
    once = sum(entry.stop - entry.start for _, entry in stored(tmp_path).values())
    assert weights.bytes_read == once - every + sum(stop - start for _, start, stop in found)


def planted(experts: list[int], folder: Path) -> None:
    """A checkpoint whose tokens are all routed to these experts: their bias is larger than any score."""
    model = deepseek_v32(first_k_dense_replace=1, n_routed_experts=8, num_experts_per_tok=len(experts))
    for name, buffer in model.named_buffers():
        if "e_score_correction_bias" in name:
            buffer.fill_(0.0)
            buffer[experts] = 10.0
    model.save_pretrained(folder)


def spoil(folder: Path, key: str) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors[key][0, :2] = torch.nan
    save_file(tensors, file, metadata={"format": "pt"})


def test_an_expert_that_no_token_is_routed_to_may_be_damaged_and_one_that_is_ends_the_run(tmp_path: Path) -> None:
    planted([1, 6], tmp_path)
    expected = logits(CapturedModel(load_model(tmp_path, device="cpu")))
    spoil(tmp_path, "model.layers.1.mlp.experts.2.up_proj.weight")
    with pytest.raises(IndexscopeError, match=r"experts.gate_up_proj has 2 of"):
        load_model(tmp_path, device="cpu")
    assert torch.equal(logits(StreamedModel(StreamedWeights(tmp_path, device="cpu"))), expected)
    spoil(tmp_path, "model.layers.2.mlp.experts.6.down_proj.weight")
    with pytest.raises(IndexscopeError, match=r"weight model.layers.2.mlp.experts.6.down_proj.weight has 2 of"):
        logits(StreamedModel(StreamedWeights(tmp_path, device="cpu")))


def test_experts_of_a_layer_add_up_over_chunks_and_samples_and_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many("mixtral").save_pretrained(tmp_path)
    whole = load_model(tmp_path, device="cpu")
    samples = [torch.randint(97, (1, 5), generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    with called(whole) as wanted:
        expected = [logits(CapturedModel(whole), ids) for ids in samples]
    streamed = StreamedModel(StreamedWeights(tmp_path, device="cpu"))
    with reads(monkeypatch) as found:
        made = streamed.side_by_side([lambda ids=ids: logits(streamed, ids) for ids in samples])
    assert all(map(torch.equal, made, expected))
    assert sorted(found) == stretches(tmp_path, wanted)


def test_reading_experts_counts_as_reading_where_the_model_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted([1], tmp_path)
    weights = StreamedWeights(tmp_path, device="cpu")
    own, taken = weights.load_experts, []

    def slow(module: nn.Module, experts: set[int]) -> None:
        time.sleep(0.5)
        taken.append(experts)
        own(module, experts)

    monkeypatch.setattr(weights, "load_experts", slow)
    streamed = StreamedModel(weights)
    logits(streamed)
    assert taken == [{1}, {1}] and streamed.loading_seconds > 1.0


def test_a_plan_says_that_no_more_than_all_experts_are_read(tmp_path: Path) -> None:
    for folder, model in (("many", many("deepseek_v32")), ("none", deepseek_v32())):
        model.save_pretrained(tmp_path / folder)
        told = streaming_plan(tmp_path / folder, ExtractSettings(device="cpu"), [[4]])
        assert ("samples reads at most " in told) == (folder == "many"), told


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["deepseek_v32", "mixtral"])
def test_experts_in_float8_are_multiplied_out_one_by_one(
    name: str, dtype: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(name).save_pretrained(tmp_path)
    quantised(tmp_path)
    scaled = any(".experts.3." in key and key.endswith("_scale_inv") for key in stored(tmp_path))
    assert scaled == (name == "deepseek_v32"), "the other's experts have other names, and stay as they were"
    whole = load_model(tmp_path, dtype, "cpu")
    with called(whole) as wanted:
        expected = logits(CapturedModel(whole))
    weights = StreamedWeights(tmp_path, dtype, "cpu")
    with reads(monkeypatch) as found:
        assert torch.equal(logits(StreamedModel(weights)), expected)
    assert sorted(found) == stretches(tmp_path, wanted), "with the scales of their own"


def test_without_a_call_all_experts_are_loaded_with_their_layer(tmp_path: Path) -> None:
    many("deepseek_v32").save_pretrained(tmp_path)
    whole = load_model(tmp_path, device="cpu")
    weights = StreamedWeights(tmp_path, device="cpu")
    weights.load(weights.layers[1])
    for name, value in weights.layers[1].named_parameters():
        assert torch.equal(value, whole.get_parameter(f"model.layers.1.{name}"))


def test_an_implementation_that_may_compute_with_any_expert_gets_them_all(tmp_path: Path) -> None:
    many("deepseek_v32").save_pretrained(tmp_path)
    weights = StreamedWeights(tmp_path, device="cpu")
    experts = weights.routed()[0]
    weights.load(weights.layers[1])
    given = (torch.zeros(2, 48), torch.tensor([[3], [5]]), torch.ones(2, 1))
    assert weights.lacking(experts, given, {}) == {3, 5}
    assert weights.lacking(experts, given[:1], {"top_k_weights": given[2], "top_k_index": given[1]}) == {3, 5}
    assert weights.lacking(experts, (given[0], torch.tensor([[EXPERTS], [5]]), given[2]), {}) == {5}, "none"
    weights.load_experts(experts, {5, 9})
    assert weights.lacking(experts, given, {}) == {3}
    assert bool(experts.gate_up_proj[9].any()) and not bool(experts.gate_up_proj[3].any())
    experts.config._experts_implementation_internal = "deepgemm"
    assert weights.lacking(experts, given, {}) == set(range(EXPERTS)) - {5, 9}
    weights.load_experts(experts, set(range(EXPERTS)))
    assert weights.lacking(experts, given, {}) == set()
    weights.drop(weights.layers[1])
    weights.fill(weights.layers[1])
    assert weights.lacking(experts, given, {}) == set() and not bool(experts.gate_up_proj.any())


@pytest.mark.parametrize("name", ["llama4_text", "gpt2"])
def test_what_is_no_module_of_routed_experts_is_read_with_its_layer(name: str, tmp_path: Path) -> None:
    """llama4 multiplies every token with every expert, in three dimensions too."""
    tiny(name).save_pretrained(tmp_path)
    weights = StreamedWeights(tmp_path, device="cpu")
    expected = logits(CapturedModel(load_model(tmp_path, device="cpu")))
    assert torch.equal(logits(StreamedModel(weights)), expected)
    assert weights.routed() == []


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system is not told what will be read")
def test_experts_are_read_ahead_where_most_of_them_will_be_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many("deepseek_v32").save_pretrained(tmp_path)
    weights, asked = StreamedWeights(tmp_path, device="cpu"), []
    monkeypatch.setattr(weights, "_advise", asked.append)
    config = weights.model.config
    enough = next(tokens for tokens in range(1, 99) if met(config, tokens) >= 0.5)
    assert enough == 11, "1 of 16 a token: 1 - (15 / 16) ** 11 = 0.508"
    for tokens in (enough, enough - 1):
        weights.ahead(weights.layers[1], tokens)
    weights.routed()
    for tokens in (enough, enough - 1):
        weights.ahead(weights.layers[1], tokens)
    every = [key for key in stored(tmp_path) if ".layers.1." in key]
    assert [sorted(keys) for keys in asked[:3]] == [sorted(every)] * 3
    assert sorted(asked[3]) == sorted(key for key in every if ".experts." not in key)


def test_what_a_pass_meets_is_what_even_routing_meets() -> None:
    """Against the mean over random routings: 2 of 8 experts for each of 5 tokens."""
    random = torch.Generator().manual_seed(0)
    routed = torch.rand(20_000, 5, 8, generator=random).topk(2, dim=-1).indices
    hit = torch.zeros(20_000, 8).scatter_(1, routed.flatten(1), 1.0).mean()
    config = SimpleNamespace(num_experts=8, num_experts_per_tok=2)
    assert met(config, 5) == pytest.approx(float(hit), abs=0.005)
    assert met(SimpleNamespace(), 1) == 1.0, "all, where nothing tells"


@pytest.mark.skipif(not STATUS.exists(), reason="memory is looked at where /proc is")
def test_experts_that_nobody_asked_for_take_no_memory(tmp_path: Path) -> None:
    config = Qwen3MoeConfig(
        vocab_size=64, hidden_size=512, num_hidden_layers=2, num_attention_heads=4, head_dim=16, num_key_value_heads=4,
        num_experts=32, num_experts_per_tok=2, moe_intermediate_size=512,
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen3MoeForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path)
    weights = StreamedWeights(tmp_path, "bfloat16", "cpu")
    experts, layer = weights.routed()[1], weights.layers[1]
    size = weights.bytes_of(layer)
    for load in (weights.load, weights.fill):
        load(layer)
        weights.drop(layer)
        assert most_during(lambda load=load: load(layer)) < 0.05 * size
        weights.drop(layer)
    weights.load(layer)
    some = most_during(lambda: weights.load_experts(experts, {3, 17}))
    assert some < 0.15 * size, "2 of 32 experts"
    others = [expert for expert in range(32) if expert not in (3, 17)]
    assert not bool(experts.down_proj[others].any())
