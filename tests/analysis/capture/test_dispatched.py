"""Models whose parts are on several devices: weights that come from memory to run, and layers of two devices."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import nn
from transformers import PreTrainedModel

from indexscope.analysis.capture import CapturedModel, capture_sparse, own_attention
from indexscope.analysis.capture.audit import audit_causality
from indexscope.analysis.capture.dispatched import changing, devices_of, home, places, shared_by_copies
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.capture.profile import profile_model
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.dispatched import MEMORY
from indexscope.storage.inputs.streamed.layers import decoder_layers
from tests.analysis.capture.apart import over
from tests.analysis.capture.streaming.test_changed import Change, edit_of, edits_of, laying
from tests.analysis.capture.streaming.test_streamed import (
    OTHERS,
    PADDED,
    assert_identical,
    assert_same_runs,
    built,
    record,
)
from tests.analysis.capture.tiny_architectures import tiny
from tests.analysis.capture.tiny_families import FAMILIES, deepseek_v32, tokens
from tests.analysis.edits.test_apply import BY_TOKEN
from tests.analysis.pretended_cuda import pretended
from tests.analysis.samples import samples
from tests.analysis.test_on_cuda import same as near

pytest.importorskip("accelerate")
CPU = torch.device("cpu")


def halved(model: PreTrainedModel) -> PreTrainedModel:
    """Every other layer on the CPU, and the others and the head in memory, from where they come to run."""
    return over(model, MEMORY, "cpu", others=MEMORY)


@pytest.mark.parametrize("name", [*FAMILIES, *OTHERS])
def test_weights_that_come_to_run_give_the_very_bits_of_those_that_stay(name: str) -> None:
    whole, apart = CapturedModel(built(name)), CapturedModel(halved(built(name)))
    away = names_away(apart)
    assert_same_runs(apart, whole)
    assert away and names_away(apart) == away, "they go again"


def names_away(source: CapturedModel) -> list[str]:
    return [name for name, parameter in source.model.named_parameters() if parameter.is_meta]


def same_tables(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    assert found.keys() == expected.keys()
    for table, frame in expected.items():
        assert_frame_equal(found[table], frame, check_exact=True)


@pytest.mark.parametrize("name", ["deepseek_v32", "deepseek_v4", "llama"])
def test_features_facts_and_audit_are_those_of_the_model_on_one_device(name: str) -> None:
    settings, model = ExtractSettings(chunk=16), halved(built(name))
    same_tables(
        extract_samples(model, samples(40, 33), settings), extract_samples(built(name), samples(40, 33), settings)
    )
    assert_frame_equal(model_facts(model), model_facts(built(name)))
    assert_frame_equal(layer_facts(model), layer_facts(built(name)))
    sequences = [list(range(40)), list(range(1, 30))]
    assert_frame_equal(audit_causality(model, sequences), audit_causality(built(name), sequences), check_exact=True)


def test_operations_are_counted_of_weights_that_are_away() -> None:
    settings = ExtractSettings(profile_lengths=(16, 40), profile_repeats=1)
    found = profile_model(halved(deepseek_v32()), settings, Journal(lambda _: None))
    expected = profile_model(deepseek_v32(), settings, Journal(lambda _: None))
    columns = ["component", "length", "flops_formula", "flops_executed", "flops_counted"]
    assert_frame_equal(found.select(columns), expected.select(columns))
    assert (found["milliseconds"] > 0).all()


def test_an_audit_copies_no_weight_of_a_model_in_memory() -> None:
    model = halved(deepseek_v32())
    CapturedModel(model)
    shared = {id(one): one for one in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared | shared_by_copies(model))
    layer, other = (next(iter(decoder_layers(one))) for one in (model, twin))
    assert other is not layer and other._hf_hook is not layer._hf_hook
    assert other._hf_hook.hook.weights_map is layer._hf_hook.hook.weights_map
    with torch.inference_mode(), own_attention(twin), own_attention(model):
        ids = tokens()
        assert torch.equal(twin(input_ids=ids).logits, model(input_ids=ids).logits)


def test_threads_take_turns_where_weights_come_and_go() -> None:
    model = CapturedModel(halved(deepseek_v32()))
    expected = torch.cat([logits for _, logits in model.run(tokens(), capture_sparse, 16)], 1)
    found: dict[int, torch.Tensor] = {}

    def run(number: int) -> None:
        for _ in range(3):
            found[number] = torch.cat([logits for _, logits in model.run(tokens(), capture_sparse, 16)], 1)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(torch.equal(logits, expected) for logits in found.values())


def assert_same(make: Callable[[], PreTrainedModel], *changes: Change) -> None:
    """A model with changes made is the same one on one device and apart."""
    model, apart = make(), halved(make())
    for change in changes:
        change(model)
        with changing(apart):
            change(apart)
    whole, source = CapturedModel(model), CapturedModel(apart)
    logits, expected = record(whole, 16, head_scores=True)
    found_logits, found = record(source, 16, head_scores=True)
    assert torch.equal(found_logits, logits)
    assert found.keys() == expected.keys()
    for layer in expected:
        for one, other in zip(found[layer], expected[layer], strict=True):
            assert_identical(one, other)
    assert all(parameter.is_meta for parameter in decoder_layers(apart)[0].parameters()), "what was added too"


@pytest.mark.parametrize("family", BY_TOKEN)
def test_every_kind_of_edit_gives_the_bits_of_the_edited_model_on_one_device(family: str) -> None:
    for edit in edits_of(family):
        assert_same(FAMILIES[family], edit_of(edit))


@pytest.mark.parametrize("name", ["llama", "deepseek_v3", "deepseek_v32", "glm_moe_dsa"])
def test_a_fitted_indexer_comes_with_its_layer_and_may_be_edited(name: str) -> None:
    make = FAMILIES[name] if name in FAMILIES else lambda: tiny(name)
    assert_same(make, laying(make))
    if name == "deepseek_v32":
        assert_same(make, laying(make), edit_of(Edit(indexer_heads={0: (1,), 2: (0, 3)}, precision="fp8")))
        assert_same(make, laying(make), edit_of(Edit(share="FSF", selector={"two_stage": {"block": 4, "keep": 3}})))


def test_a_model_on_one_device_is_nobodys_but_its_own() -> None:
    model = deepseek_v32()
    source = CapturedModel(model)
    assert devices_of(source) == (CPU,) and home(model) == CPU
    assert set(places(model).values()) == {CPU}
    with changing(model):
        pass
    assert "forward" not in vars(model)


def put(module: nn.Module, name: str, device: Any, value: torch.Tensor | None = None, **_: Any) -> None:
    """What accelerate's own function of this name does with a tensor."""
    within, _, own = name.rpartition(".")
    holder = module.get_submodule(within)
    given = getattr(holder, own) if value is None else value
    moved = torch.empty(given.shape, dtype=given.dtype, device="meta") if device == "meta" else given.to(device)
    if own in holder._buffers:
        holder._buffers[own] = moved
    else:
        holder._parameters[own] = nn.Parameter(moved, requires_grad=False)


@pytest.mark.parametrize("name", [*FAMILIES, "llama", "qwen3_next", "gemma2"])
def test_layers_of_two_devices_never_mix_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a pretended GPU and the CPU in turn, and from memory: what a GPU refuses is refused here too."""
    settings = ExtractSettings(chunk=16)
    expected = extract_samples(built(name), samples(40), settings)
    # Which makes a parameter of its own class anew: those of the pretended device have none.
    monkeypatch.setattr("accelerate.hooks.set_module_tensor_to_device", put)
    with pretended(monkeypatch):
        model = over(built(name), "cuda:0", "cpu", MEMORY, others="cuda:0", main="cuda:0")
        assert {str(device) for device in devices_of(CapturedModel(model))} == {"cuda:0", "cpu"}
        found = extract_samples(model, samples(40), settings)
        padded = record(CapturedModel(model), 16, attention_mask=PADDED.to("cuda:0"), head_scores=True)[0]
    assert padded.shape[1] == 40
    near(found, expected)
