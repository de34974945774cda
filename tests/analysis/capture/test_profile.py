"""Claims about measured cost: operations, memory, the selection's time, and what layers may see."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import polars as pl
import pytest
import torch
from transformers import PreTrainedModel

from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.capture.counted import _Peaks, _Watch, counted
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.indexer import indexers
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.capture.model import own_attention
from indexscope.analysis.capture.operations import flop_counter
from indexscope.analysis.capture.profile import flops_formula, profile_model
from indexscope.analysis.capture.spans import spans
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.model_loading import load_model
from tests.analysis.capture import tiny_architectures, tiny_families

BUILTIN = Path(__file__).parents[3] / "storage" / "builtin" / "baseline"
BY_TOKEN = ("deepseek_v32", "glm_moe_dsa", "axk2", "dots3_note", "hy_v4", "mistral_large4")
DENSE = ("llama", "qwen3_moe", "gemma3_text", "gpt2", "mistral", "mixtral", "deepseek_v3", "llama4_text")
ONCE = ExtractSettings(profile_lengths=(32, 70), profile_repeats=1)


def assert_counter_agrees(profile: pl.DataFrame) -> None:
    counted = profile.filter(pl.col("component") != "selection")
    assert counted["flops_executed"].null_count() == counted["flops_counted"].null_count() == 0
    for row in counted.iter_rows(named=True):
        assert row["flops_executed"] == pytest.approx(row["flops_counted"], rel=0.01), row


@pytest.mark.parametrize("family", BY_TOKEN)
def test_executed_operations_by_formula_are_those_that_torch_counts(family: str) -> None:
    profile = profile_model(tiny_families.FAMILIES[family](), ONCE)
    assert_counter_agrees(profile)
    assert set(profile["component"]) == {"indexer", "selection", "attention", "model"}


@pytest.mark.parametrize("name", DENSE)
def test_executed_operations_of_dense_models_are_those_that_torch_counts(name: str) -> None:
    """Grouped queries, latent attention, windows, routed experts and tied heads among them."""
    profile = profile_model(tiny_architectures.tiny(name), ONCE)
    assert_counter_agrees(profile)
    assert set(profile["component"]) == {"attention", "model"}


def test_executed_operations_of_the_built_in_model_are_those_that_torch_counts() -> None:
    model = load_model(BUILTIN, "float32", "cpu")
    profile = profile_model(model, ExtractSettings(profile_lengths=(16, 64, 100, 200), profile_repeats=1))
    assert_counter_agrees(profile)
    needed = profile.filter(pl.col("flops_formula").is_not_null())
    assert (needed["flops_formula"] < needed["flops_executed"]).all(), "masked pairs are executed and not needed"


def test_what_an_indexer_of_pools_executes_has_no_formula() -> None:
    profile = profile_model(
        tiny_families.FAMILIES["qwen4_exp"](), ExtractSettings(profile_lengths=(32,), profile_repeats=1)
    )
    assert profile["flops_executed"].null_count() == profile.height
    assert profile.filter(pl.col("component") == "indexer")["flops_counted"].item() > 0


def test_the_counter_knows_fused_attention_on_the_cpu() -> None:
    query, key = torch.randn(1, 4, 10, 8), torch.randn(1, 4, 10, 8)
    with torch.inference_mode(), flop_counter() as counter:
        torch.nn.functional.scaled_dot_product_attention(query, key, key)
    assert counter.get_total_flops() == 2 * 4 * 10 * 10 * (8 + 8)


WINDOWED = ["mistral", "gemma3_text", "olmo3", "llama4_text", "inkling_text", "recurrent_gemma"]


@pytest.mark.parametrize("name", [*WINDOWED, "dots3_note", "deepseek_v32"])
def test_windows_and_chunks_are_what_the_layer_lets_every_query_see(name: str) -> None:
    build = tiny_families.FAMILIES.get(name)
    model = build() if build else tiny_architectures.tiny(name)
    layers = {row["layer"]: row for row in layer_facts(CapturedModel(model)).iter_rows(named=True)}
    _, seen = tiny_families.record(model, tiny_families.tokens(30, batch=1), 30)
    assert layers.keys() == seen.keys()
    for layer, (chunk,) in seen.items():
        window, size = layers[layer]["window"], layers[layer]["attention_chunk"]
        expected = [min(t % (size or 30) + 1, window or 30) for t in range(30)]
        assert chunk.eligible[0, 0].sum(-1).tolist() == expected
        assert layers[layer]["selects"] == (chunk.selected is not None)


@pytest.mark.parametrize("name", WINDOWED)
def test_needed_pairs_are_those_that_torch_counts_when_masked_keys_are_left_out(name: str) -> None:
    """Each query multiplied with its eligible keys alone, as a kernel that skips the others does."""
    model, length = tiny_architectures.tiny(name), 45
    facts = model_facts(model).row(0, named=True)
    nothing = dict.fromkeys(("indexer", "attention", "rest"), 0.0)
    needed = flops_formula(facts, length, layer_facts(CapturedModel(model)), nothing)
    _, seen = tiny_families.record(model, tiny_families.tokens(length, batch=1), length)
    with torch.inference_mode(), flop_counter() as counter:
        for chunk in [chunk for found in seen.values() for chunk in found]:
            share = chunk.query.shape[1] // chunk.key.shape[1]
            key, value = (part[0].repeat_interleave(share, 0) for part in (chunk.key, chunk.value))
            for t in range(length):
                own = chunk.eligible[0, 0, t]
                weights = (chunk.query[0, :, t : t + 1] @ key[:, own].transpose(1, 2)).softmax(-1)
                weights @ value[:, own]
    assert needed["attention"] == counter.get_total_flops()


class _SleepyIndexer(torch.nn.Module):
    """Takes 20 ms for its scores and hardly any time for topk."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return scores.topk(2).indices


def test_selection_is_the_time_of_topk_alone_and_only_inside_an_indexer() -> None:
    indexer, scores = _SleepyIndexer(), torch.rand(8)

    def forward() -> None:
        indexer(scores)
        scores.topk(2)  # a router's, say
        time.sleep(0.02)

    marks: list[str] = []
    with spans({"indexer": [indexer]}, marks.append, marks.append, lambda call: marks.append("before")):
        forward()
    assert marks == ["indexer", "before", "selection", "selection", "indexer"]
    took = counted({"indexer": [indexer]}, forward, [torch.device("cpu")], repeats=4).selection
    assert len(took) == 4
    assert 0 < min(took) <= max(took) < 0.02
    assert counted({"indexer": []}, forward, [torch.device("cpu")], repeats=4).selection == ()


def test_calls_in_other_threads_are_none_of_a_forwards_own() -> None:
    indexer, scores, marks = _SleepyIndexer(), torch.rand(8), list[str]()
    with spans({"indexer": [indexer]}, marks.append, marks.append, lambda call: marks.append("before")):
        other = threading.Thread(target=indexer, args=(scores,))
        other.start()
        other.join()
        assert marks == []
        indexer(scores)
    assert marks == ["indexer", "before", "selection", "selection", "indexer"]


def test_what_others_take_and_leave_while_a_forward_waits_is_not_its_peak() -> None:
    """100 bytes before the pause, 30 after it; meanwhile others go up to 5,000 and leave 400."""

    class Meter(_Watch):
        def take(self, size: int) -> None:
            self.now += size
            self.highest = max(self.highest, self.now)

    meter = Meter()
    meter.take(1000)
    peaks = _Peaks(meter)
    peaks.start("model")
    meter.take(100)
    meter.take(-50)
    peaks.pause()
    meter.take(5000)
    meter.take(-4600)
    peaks.resume()
    peaks.start("attention")
    meter.take(30)
    peaks.stop("attention")
    peaks.stop("model")
    assert peaks.found == {"attention": 30, "model": 100}


def test_a_length_runs_once_more_than_it_is_timed(dsa: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is counted is counted in one forward, and topk is timed in it too."""
    forwards, forward = [], type(dsa).forward

    def counting(self: PreTrainedModel, input_ids: torch.Tensor, **options: object) -> object:
        forwards.append(input_ids.shape[1])
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(dsa), "forward", counting)
    monkeypatch.setattr("indexscope.analysis.capture.repeats.NARROW", 0.0)
    rows = profile_model(dsa, ExtractSettings(profile_lengths=(32,), profile_repeats=4))
    assert dict(rows.select("component", "repeats").iter_rows()) == {
        "indexer": 4,
        "selection": 3,
        "attention": 4,
        "model": 4,
    }
    assert not rows["cut"].any()
    assert forwards.count(32) == 1 + 4


def test_times_that_hardly_differ_are_enough(dsa: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexscope.analysis.capture.repeats.NARROW", 1e9)
    rows = profile_model(dsa, ExtractSettings(profile_lengths=(32,), profile_repeats=9))
    assert rows["repeats"].to_list() == [3] * 4
    assert not rows["cut"].any()


def test_timed_forwards_run_a_tenth_of_the_studys_tokens_and_a_cut_is_told(
    dsa: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexscope.analysis.capture.repeats.NARROW", 0.0)

    def profiled(samples: int) -> tuple[pl.DataFrame, list[str]]:
        journal = Journal(lambda _: None)
        rows = profile_model(dsa, ExtractSettings(profile_repeats=3), journal, tokens=[80] * samples)
        return rows.filter(pl.col("component") == "model"), journal.notes

    rows, notes = profiled(40)  # a tenth is 320 tokens, and the three lengths are 140
    assert rows["length"].to_list() == [20, 40, 80]
    assert (rows["repeats"].to_list(), rows["cut"].to_list()) == ([2] * 3, [True] * 3)
    assert notes == [
        "forwards timed at each length: 2, not 3, which would run more than 10% of the study's 3200 tokens "
        "(dataset.samples; extract.profile_lengths)"
    ]
    rows, notes = profiled(1)
    assert (rows["repeats"].to_list(), len(notes)) == ([1] * 3, 1)
    rows, notes = profiled(60)
    assert (rows["repeats"].to_list(), rows["cut"].any(), notes) == ([3] * 3, False, [])


@pytest.mark.parametrize("name", [*BY_TOKEN, *DENSE, "qwen4_exp", "minimax_m3"])
def test_operations_counted_beside_memory_are_those_of_torchs_own_counter(name: str) -> None:
    build = tiny_families.FAMILIES.get(name)
    model = build() if build else tiny_architectures.tiny(name)
    ids = tiny_families.tokens(40, batch=1)
    with own_attention(model), torch.inference_mode():
        with flop_counter() as counter:
            model(input_ids=ids, use_cache=False)
        told = counted({"indexer": [], "model": [model]}, lambda: model(input_ids=ids), [torch.device("cpu")])
    assert told.flops["model"] == counter.get_total_flops() > 0


def test_profiling_leaves_no_hook_behind(dsa: PreTrainedModel) -> None:
    hooks = [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in dsa.modules()]
    profile_model(dsa, ExtractSettings(profile_lengths=(16,), profile_repeats=1))
    assert [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in dsa.modules()] == hooks


def test_a_forward_that_fails_in_an_indexer_leaves_no_mode_behind() -> None:
    indexer = _SleepyIndexer()
    marks: list[str] = []
    parts = {"indexer": [indexer]}
    with pytest.raises(RuntimeError), spans(parts, marks.append, marks.append, lambda call: None):
        indexer(torch.rand(1))  # topk of two among one
    before = list(marks)
    torch.rand(4).topk(2)
    assert marks == before


class _Doubling(torch.nn.Module):
    """Makes 4,000 bytes, then 8,000 more, and lets go of the first: 12,000 at the peak."""

    def forward(self, start: torch.Tensor) -> torch.Tensor:
        first = start.repeat(1000)
        return torch.cat([first, first])


class _Nested(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = _Doubling()

    def forward(self, start: torch.Tensor) -> torch.Tensor:
        held = start.repeat(500)  # 2,000 bytes, alive while the inner one runs
        result = self.inner(start).sum()
        return result + held.sum()


def test_peak_memory_is_that_of_the_tensors_alive_and_the_inner_part_is_its_own() -> None:
    model = _Nested()
    start = torch.ones(1)
    parts = {"indexer": [model.inner], "attention": [model], "model": []}
    with torch.inference_mode():
        found = counted(parts, lambda: model(start), [torch.device("cpu")], repeats=3).peak_bytes
    assert found["indexer"] == 12_000
    assert 10_000 <= found["attention"] <= 10_100, "held and result: the first tensor has gone when the inner one ends"


def test_selection_memory_is_scores_and_indices_that_topk_returns(dsa: PreTrainedModel) -> None:
    profile = profile_model(dsa, ExtractSettings(profile_lengths=(64,), profile_repeats=1))
    peak = dict(profile.select("component", "peak_bytes").iter_rows())
    k = dsa.config.index_topk
    assert peak["selection"] == 64 * k * (4 + 8)  # float32 scores and int64 places of one layer
    assert peak["indexer"] >= 64 * 64 * 8 * 4, "at least the scores of its eight heads"
    assert peak["model"] > peak["attention"]
    assert len(indexers(dsa)) == 3
