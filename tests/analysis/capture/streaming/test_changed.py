"""Edits and fitted indexers laid over a model that is read layer by layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from polars.testing import assert_frame_equal
from transformers import PreTrainedModel

from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.capture.audit import audit_causality
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.capture.profile import profile_model
from indexscope.analysis.capture.streaming.model import StreamedModel
from indexscope.analysis.edits.apply import apply_edit
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.edits.places import places_of
from indexscope.analysis.features import extract_samples
from indexscope.analysis.fitting.selector import lay_over
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.capture.streaming.in_parts import InParts
from tests.analysis.capture.streaming.test_streamed import assert_identical, record
from tests.analysis.capture.tiny_architectures import tiny
from tests.analysis.capture.tiny_families import FAMILIES
from tests.analysis.edits.test_apply import BY_TOKEN, EVERY_KIND
from tests.analysis.fitting.test_scorer import random_indexer
from tests.analysis.samples import samples

Change = Callable[[PreTrainedModel | StreamedModel], None]


def edit_of(edit: Edit) -> Change:
    def change(model: PreTrainedModel | StreamedModel) -> None:
        apply_edit(model.model if isinstance(model, StreamedModel) else model, edit)
        if isinstance(model, StreamedModel):
            model.changed()

    return change


def both(make: Callable[[], PreTrainedModel], *changes: Change) -> tuple[CapturedModel, StreamedModel, InParts]:
    """A model with changes made, in memory and read layer by layer."""
    model, parts = make(), InParts(make())
    streamed = StreamedModel(parts)
    for change in changes:
        change(model)
        change(streamed)
    assert not parts.loads, "a change reads no weight"
    return CapturedModel(model), streamed, parts


def assert_same(whole: CapturedModel, streamed: StreamedModel, parts: InParts) -> None:
    for chunk in (7, 64):
        logits, expected = record(whole, chunk, head_scores=True)
        found_logits, found = record(streamed, chunk, head_scores=True)
        assert torch.equal(found_logits, logits)
        assert found.keys() == expected.keys()
        for layer in expected:
            for one, other in zip(found[layer], expected[layer], strict=True):
                assert_identical(one, other)
    assert set(parts.loads.values()) == {2}
    assert all(parameter.is_meta for layer in parts.layers for parameter in layer.parameters())


def edits_of(family: str) -> list[Edit]:
    places = places_of(FAMILIES[family]())
    first, *_, last = own = [layer for layer, place in places.items() if place.indexer is not None]
    layers = FAMILIES[family]().config.get_text_config().num_hidden_layers
    shares = "".join("F" if layer == first else "S" for layer in range(layers))
    heads = {first: (1,), last: (0, 6)}
    edits = [*EVERY_KIND, Edit(indexer_heads=heads, precision="int8", topk=5), Edit(selector="oracle", share=shares)]
    if len(own) > 1:
        edits += [Edit(share=shares), Edit(share=shares, selector={"two_stage": {"block": 4, "keep": 3}})]
    return edits


@pytest.mark.parametrize("family", BY_TOKEN)
def test_every_kind_of_edit_gives_the_bits_of_the_edited_model_in_memory(family: str) -> None:
    for edit in edits_of(family):
        assert_same(*both(FAMILIES[family], edit_of(edit)))


@pytest.mark.parametrize("name", ["llama", "qwen3_next", "gemma3_text"])
def test_an_edit_of_a_dense_model_gives_the_bits_of_that_in_memory(name: str) -> None:
    for edit in (Edit(selector="oracle", topk=6), Edit(selector={"recent": {"window": 3, "sink": 2}})):
        assert_same(*both(lambda: tiny(name), edit_of(edit)))


def laying(make: Callable[[], PreTrainedModel]) -> Change:
    indexer = random_indexer(make(), 4, 8, 6)
    return lambda model: lay_over(model, indexer, 6) and None


@pytest.mark.parametrize("name", ["llama", "gpt2", "deepseek_v3", "deepseek_v32", "glm_moe_dsa"])
def test_a_fitted_indexer_is_read_with_its_layer_and_selects_the_same_keys(name: str) -> None:
    make = FAMILIES[name] if name in FAMILIES else lambda: tiny(name)
    assert_same(*both(make, laying(make)))


@pytest.mark.parametrize(
    "edit",
    [
        Edit(indexer_heads={0: (1,), 2: (0, 3)}, precision="fp8"),
        Edit(share="FSS"),
        Edit(share="FSF", selector={"two_stage": {"block": 4, "keep": 3}}),
        Edit(selector={"block": {"size": 4, "keep": 2}}),
    ],
    ids=str,
)
def test_an_edit_of_a_fitted_indexer_gives_the_same_bits(edit: Edit) -> None:
    make = FAMILIES["deepseek_v32"]
    assert_same(*both(make, laying(make), edit_of(edit)))


@pytest.mark.parametrize("family", ["deepseek_v32", "glm_moe_dsa"])
def test_what_is_said_of_a_changed_model_is_said_of_it_streamed(family: str) -> None:
    places = places_of(FAMILIES[family]())
    first = next(layer for layer, place in places.items() if place.indexer is not None)
    whole, streamed, parts = both(FAMILIES[family], edit_of(Edit(indexer_heads={first: (1, 3)}, topk=5)))
    assert_frame_equal(model_facts(streamed).drop("device"), model_facts(whole).drop("device"))
    assert_frame_equal(layer_facts(streamed), layer_facts(whole))
    assert not parts.loads
    sequences = [list(range(40)), list(range(1, 30))]
    assert_frame_equal(audit_causality(streamed, sequences), audit_causality(whole, sequences), check_exact=True)


@pytest.mark.parametrize(("name", "share"), [("llama", ""), ("deepseek_v32", "FSF"), ("glm_moe_dsa", "FSSS")])
def test_the_audit_and_the_times_of_a_model_under_a_fitted_indexer_take_one_pass_each(name: str, share: str) -> None:
    make = FAMILIES[name] if name in FAMILIES else lambda: tiny(name)
    changes = [laying(make), *([edit_of(Edit(share=share))] if share else [])]
    whole, streamed, parts = both(make, *changes)
    sequences, settings = [list(range(40)), list(range(1, 30))], ExtractSettings(profile_lengths=(16, 40))
    assert_frame_equal(audit_causality(streamed, sequences), audit_causality(whole, sequences), check_exact=True)
    assert set(parts.loads.values()) == {1}
    found, expected = (profile_model(one, settings, Journal()) for one in (streamed, whole))
    columns = ["component", "length", "flops_formula", "flops_executed", "flops_counted"]
    assert_frame_equal(found.select(columns), expected.select(columns))
    assert set(parts.loads.values()) == {2}


def test_features_of_many_samples_of_a_changed_model_come_from_one_sweep() -> None:
    make = FAMILIES["deepseek_v32"]
    whole, streamed, parts = both(make, laying(make), edit_of(Edit(share="FSF", topk=5)))
    settings = ExtractSettings(chunk=16)
    found, expected = (extract_samples(one, samples(40, 33, 40), settings) for one in (streamed, whole))
    for table, frame in expected.items():
        assert_frame_equal(found[table], frame, check_exact=True)
    assert set(parts.loads.values()) == {1}
