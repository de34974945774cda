from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from transformers import PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.capture import (
    AttentionChunk,
    CapturedModel,
    audit,
    capture_dense,
    capture_sparse,
    own_attention,
)
from indexscope.analysis.capture.audit import audit_causality
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.capture.profile import profile_model
from indexscope.analysis.capture.source import Source
from indexscope.analysis.capture.streaming.model import StreamedModel
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.settings import ExtractSettings
from indexscope.analysis.stability.rerun import rerun_stability
from tests.analysis.capture.streaming.in_parts import InParts
from tests.analysis.capture.tiny_architectures import tiny
from tests.analysis.capture.tiny_families import FAMILIES, deepseek_v32, tokens
from tests.analysis.samples import samples

# Dense, windows, learned sinks, soft caps, learned positions, experts, recurrent layers of both kinds, whole sequences.
OTHERS = [
    "llama", "qwen3_moe", "gemma2", "gemma3_text", "gpt2", "gpt_oss", "mixtral", "deepseek_v3", "olmo3", "llama4_text",
    "qwen3_next", "falcon_h1", "lfm2", "recurrent_gemma", "jamba",
]  # fmt: skip
PADDED = torch.tensor([[0] * 5 + [1] * 35, [1] * 40])
OPTIONS: list[dict[str, Any]] = [
    {"head_scores": True},
    {"select": False},
    {"attention_mask": PADDED},
]


def built(name: str) -> PreTrainedModel:
    return FAMILIES[name]() if name in FAMILIES else tiny(name)


def record(source: Source, chunk: int, **options: Any) -> tuple[torch.Tensor, dict[int, list[AttentionChunk]]]:
    seen: dict[int, list[AttentionChunk]] = {}
    attend = capture_sparse if options.get("select", True) else capture_dense

    def observe(part: AttentionChunk) -> torch.Tensor:
        seen.setdefault(part.layer, []).append(part)
        return attend(part)

    return torch.cat([logits for _, logits in source.run(tokens(), observe, chunk, **options)], 1), seen


def assert_identical(found: AttentionChunk, expected: AttentionChunk) -> None:
    for field in dataclasses.fields(AttentionChunk):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, torch.Tensor):
            torch.testing.assert_close(one, other, atol=0, rtol=0, equal_nan=True, msg=field.name)
        elif field.name != "entries":
            assert one == other, field.name


def assert_same_runs(source: Source, whole: Source) -> None:
    for options in OPTIONS:
        for chunk in (7, 64):
            logits, expected = record(whole, chunk, **options)
            found_logits, found = record(source, chunk, **options)
            assert torch.equal(found_logits, logits)
            assert found.keys() == expected.keys()
            for layer in expected:
                for one, other in zip(found[layer], expected[layer], strict=True):
                    assert_identical(one, other)


@pytest.mark.parametrize("name", [*FAMILIES, *OTHERS])
def test_layer_by_layer_gives_the_very_bits_of_the_model_in_memory(name: str) -> None:
    whole, parts = CapturedModel(built(name)), InParts(built(name))
    streamed = StreamedModel(parts)
    assert_same_runs(streamed, whole)
    assert parts.most == 1


@pytest.mark.parametrize("name", ["deepseek_v32", "mistral_large4", "qwen3_next"])
def test_features_of_many_samples_are_those_of_the_model_in_memory_in_one_sweep(name: str) -> None:
    settings = ExtractSettings(chunk=16)
    parts = InParts(built(name))
    found = extract_samples(StreamedModel(parts), samples(40, 33, 40), settings)
    expected = extract_samples(built(name), samples(40, 33, 40), settings)
    assert found.keys() == expected.keys()
    for table, frame in expected.items():
        assert_frame_equal(found[table], frame, check_exact=True)
    assert set(parts.loads.values()) == {1}, "sparse and dense runs of all samples go through a layer together"


@pytest.mark.parametrize("name", ["deepseek_v32", "glm_moe_dsa"])
def test_reruns_under_other_selections_are_those_of_the_model_in_memory(name: str) -> None:
    """A layer that shares a selection gets what was put in place of the other layer's, chunk by chunk."""
    settings, parts = ExtractSettings(chunk=16), InParts(built(name))
    streamed, whole = StreamedModel(parts), CapturedModel(built(name))
    found = rerun_stability(streamed, samples(40, 40), 12, Attempt(streamed, settings, Journal()))
    expected = rerun_stability(whole, samples(40, 40), 12, Attempt(whole, settings, Journal()))
    assert expected["selection_rerun"]["changed"].max() > 0  # type: ignore[operator]
    for table, frame in expected.items():
        assert_frame_equal(found[table], frame, check_exact=True)
    assert set(parts.loads.values()) == {1}, "all reruns go through a layer together"


def test_facts_and_layers_of_a_streamed_model_are_read_off_its_modules() -> None:
    parts = InParts(deepseek_v32())
    streamed = StreamedModel(parts)
    assert_frame_equal(layer_facts(streamed), layer_facts(deepseek_v32()))
    assert streamed.notes == CapturedModel(deepseek_v32()).notes
    facts = model_facts(streamed)
    assert_frame_equal(facts.drop("device"), model_facts(deepseek_v32()).drop("device"))
    assert not parts.loads, "what a model is made of shows without its weights"


def test_the_models_own_forward_reads_each_layer_as_it_is_called() -> None:
    parts, model = InParts(deepseek_v32()), deepseek_v32()
    streamed = StreamedModel(parts)
    with torch.inference_mode(), own_attention(model), own_attention(streamed.model):
        expected = model(input_ids=tokens(), use_cache=False).logits
        assert torch.equal(streamed.model(input_ids=tokens(), use_cache=False).logits, expected)
    assert parts.most == 1


def test_a_chunk_that_is_too_large_is_halved_for_its_sample_alone() -> None:
    settings, journal, parts = ExtractSettings(chunk=32), Journal(), InParts(deepseek_v32())
    streamed = StreamedModel(parts)
    failing = {1}

    class Beside:
        def __init__(self, index: int) -> None:
            self.index = index

        def observe(self, chunk: AttentionChunk) -> None:
            if self.index in failing and chunk.layer == 1:
                failing.discard(self.index)
                raise MemoryError

        def predicted(self, start: int, logits: torch.Tensor) -> None:
            pass

        def tables(self) -> dict[str, Any]:
            return {}

    found = extract_samples(
        streamed, samples(40, 33, 40), settings, journal, beside=lambda sample: Beside(sample.index)
    )
    assert journal.chunks == {16, 32}
    assert found["samples"]["sample"].to_list() == [0, 1, 2]
    assert parts.loads[0] == 2, "the sample that failed runs again, the others do not"
    expected = extract_samples(deepseek_v32(), samples(40, 33, 40), settings)
    others = found["attention"].filter(found["attention"]["sample"] != 1)
    assert_frame_equal(others, expected["attention"].filter(expected["attention"]["sample"] != 1), check_exact=True)


def test_an_error_of_one_sample_ends_the_work_and_leaves_no_thread_waiting() -> None:
    class Broken(IndexscopeError):
        pass

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        raise Broken("sample 1", "is broken", "mend it")

    streamed = StreamedModel(InParts(deepseek_v32()))
    before = threading.active_count()
    works = [
        lambda observer=observer: list(streamed.run(tokens(), observer, 16)) for observer in (capture_sparse, observe)
    ]
    with pytest.raises(Broken):
        streamed.side_by_side(works)
    assert threading.active_count() == before
    assert len(streamed.side_by_side(works[:1])[0]) == 3


def test_a_model_whose_layers_need_more_than_the_layer_before_is_refused_by_name() -> None:
    streamed = StreamedModel(InParts(tiny("zamba2")))
    with pytest.raises(IndexscopeError, match=r"zamba2.*layer 1 needs the embeddings of the tokens"):
        list(streamed.run(tokens(), capture_sparse, 64))


def test_the_layers_must_run_in_their_order() -> None:
    model = tiny("llama")
    parts = InParts(model)
    streamed = StreamedModel(parts)
    model.model.layers = torch.nn.ModuleList(reversed(list(model.model.layers)))
    with pytest.raises(IndexscopeError, match="calls layer 1 where layer 0 is the next"):
        list(streamed.run(tokens(), capture_sparse, 64))


def test_the_audit_of_a_streamed_model_is_that_of_the_model_in_memory() -> None:
    sequences = [list(range(40)), list(range(1, 30))]
    for name in ("deepseek_v32", "glm_moe_dsa", "gpt2"):
        parts = InParts(built(name))
        found, expected = audit_causality(StreamedModel(parts), sequences), audit_causality(built(name), sequences)
        assert_frame_equal(found, expected, check_exact=True)
        assert set(parts.loads.values()) == {1}, "as it is, tokens changed after every position, and watched"


@pytest.mark.parametrize("name", [*FAMILIES, *OTHERS])
def test_no_layer_by_itself_moves_by_more_than_rounding_read_whole_or_layer_by_layer(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "RELATIVE_TOLERANCE", {torch.float32: -1.0})  # so that the logits do not suffice
    sequences = [list(range(30))]
    expected = audit_causality(built(name), sequences)
    assert 0.0 <= expected["layer_change"][0] < 1e-5
    assert_frame_equal(audit_causality(StreamedModel(InParts(built(name))), sequences), expected, check_exact=True)


def test_a_layer_that_leaks_is_seen_layer_by_layer() -> None:
    def leaking() -> PreTrainedModel:
        model = built("deepseek_v32")
        model.model.layers[1].mlp.register_forward_hook(lambda _, __, made: made + made.mean(1, keepdim=True))
        return model

    expected = audit_causality(leaking(), [list(range(30))])
    assert expected["passed"][0] is False
    assert expected["layer_change"][0] > 0.01
    found = audit_causality(StreamedModel(InParts(leaking())), [list(range(30))])
    assert_frame_equal(found, expected, check_exact=True)


COUNTED = ["component", "length", "repeats", "flops_formula", "flops_executed", "flops_counted", "peak_bytes"]


@pytest.mark.parametrize("name", ["glm_moe_dsa", "qwen3_next", "gpt2"])
def test_lengths_that_go_through_a_model_in_step_are_counted_as_one_after_the_other(name: str) -> None:
    settings, parts = ExtractSettings(profile_lengths=(8, 16, 30), profile_repeats=1), InParts(built(name))
    found = profile_model(StreamedModel(parts), settings, Journal())
    assert_frame_equal(found.select(COUNTED), profile_model(built(name), settings).select(COUNTED))
    assert set(parts.loads.values()) == {1} and parts.most == 1
    assert (found["milliseconds"] > 0).all()


def test_a_length_that_runs_out_of_memory_beside_others_runs_again_alone_and_is_left_out_if_it_must() -> None:
    model, journal, lengths = built("deepseek_v32"), Journal(), list[int]()

    def full(_: object, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> None:
        length = (args[0] if args else kwargs["hidden_states"]).shape[1]
        lengths.append(length)
        if length == 30 or (length == 16 and lengths.count(16) == 1):
            raise torch.OutOfMemoryError

    model.model.layers[1].register_forward_pre_hook(full, with_kwargs=True)
    parts = InParts(model)
    found = profile_model(StreamedModel(parts), ExtractSettings(profile_lengths=(8, 16, 30)), journal)
    assert found.filter(pl.col("component") == "model")["length"].to_list() == [8, 16]
    assert [note for note in journal.notes if "no latency" in note] == ["no latency at 30 tokens: out of memory"]
    assert parts.loads[2] == 2, "once for 8 tokens, and once for 16"


def test_an_error_of_one_forward_ends_all_and_leaves_nothing_behind() -> None:
    model, threads = built("deepseek_v32"), threading.active_count()
    hook = model.model.layers[2].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(ValueError("odd")))
    streamed = StreamedModel(InParts(model))
    with pytest.raises(ValueError, match="odd"):
        profile_model(streamed, ExtractSettings(profile_lengths=(8, 16)), Journal())
    assert threading.active_count() == threads
    assert not any(module._forward_hooks for module in model.modules())
    hook.remove()
    assert len(profile_model(streamed, ExtractSettings(profile_lengths=(8,)), Journal()))


def test_a_streamed_model_is_timed_without_the_reading_and_counted_as_it_is() -> None:
    settings, journal = ExtractSettings(profile_lengths=(16, 40)), Journal()
    parts = InParts(deepseek_v32())
    load = parts.load

    def slow(part: torch.nn.Module, deep: bool = True) -> None:
        time.sleep(0.2)
        load(part, deep)

    parts.load = slow  # type: ignore[method-assign]
    found = profile_model(StreamedModel(parts), settings, journal)
    expected = profile_model(deepseek_v32(), settings)
    columns = ["component", "length", "flops_formula", "flops_executed", "flops_counted", "peak_bytes"]
    assert_frame_equal(found.select(columns), expected.select(columns))
    assert dict(parts.loads) == {0: 1, 1: 1, 2: 1}, "counted and timed, at both lengths, in one pass"
    assert parts.most == 1
    assert found["repeats"].max() == 1
    assert found["milliseconds"].max() < 200  # type: ignore[operator]  # three layers alone are read in 600
    assert [note for note in journal.notes if "timed" in note] == [
        "its weights are read layer by layer, so that each length is timed once, without the reading"
    ]
