from __future__ import annotations

import math
import threading

import pytest
import torch

from indexscope import IndexscopeError
from indexscope.analysis.capture import CapturedModel, capture_sparse
from indexscope.analysis.capture.audit import audit_causality
from indexscope.analysis.capture.held_layers import HeldLayers
from indexscope.analysis.capture.protocol import TracedModel
from indexscope.analysis.capture.trace import Trace
from tests.analysis.capture.research_model import ResearchModel
from tests.analysis.conftest import tiny_dsa, tiny_llama


def sequences(length: int = 40, vocabulary: int = 31, count: int = 3) -> list[list[int]]:
    random = torch.Generator().manual_seed(2)
    return torch.randint(vocabulary, (count, length), generator=random).tolist()


def verdict(model, given: list[list[int]] | None = None) -> dict:
    return audit_causality(model, given or sequences()).row(0, named=True)


def test_a_research_model_with_a_causal_mask_passes() -> None:
    found = verdict(ResearchModel().eval())
    assert found["passed"]
    assert found["max_logit_change"] <= found["tolerance"]
    assert (found["future_selected"], found["positions_checked"]) == (0, 3 * 5)


def test_a_topk_that_is_the_only_mask_is_caught_by_logits_and_by_selection() -> None:
    found = verdict(ResearchModel(faulty=True, topk=8).eval())
    assert found["passed"] is False
    assert found["max_logit_change"] > 100 * found["tolerance"]
    # The query at t fills 8 places from t + 1 keys, in each of 2 layers of 3 samples.
    assert found["future_selected"] == 3 * 2 * sum(7 - t for t in range(8))


def test_the_faulty_model_predicts_random_text_and_the_right_one_does_not() -> None:
    def nll(faulty: bool) -> float:
        model = ResearchModel(faulty, topk=12)
        torch.nn.init.normal_(model.tokens.weight, std=0.3)
        torch.nn.init.normal_(model.places.weight, std=0.3)
        random = torch.Generator().manual_seed(0)
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        losses = []
        for _ in range(160):
            ids = torch.randint(31, (32, 12), generator=random)  # never the same text twice
            logits = model.trace(ids).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        return sum(losses[-20:]) / 20

    assert nll(faulty=False) == pytest.approx(math.log(31), abs=0.1)
    assert nll(faulty=True) < 0.5


class _Picks(ResearchModel):
    """Gives its selection as the indices that topk returned, future ones included."""

    def trace(self, input_ids: torch.Tensor, select: bool = True) -> Trace:
        trace = super().trace(input_ids, select)
        layers = []
        for layer in trace.layers:
            picked = layer.scores.topk(min(self.index_topk, input_ids.shape[1])).indices
            layers.append(type(layer)(query=layer.query, key=layer.key, scale=layer.scale, selected=picked))
        return Trace(trace.logits, layers)


def test_picked_indices_do_not_say_what_is_attended_to_so_the_logits_decide() -> None:
    right, wrong = verdict(_Picks().eval()), verdict(_Picks(faulty=True).eval())
    assert (right["passed"], right["future_selected"]) == (True, None)
    assert (wrong["passed"], wrong["future_selected"]) == (False, None)


class _Leaks(torch.nn.Module):
    """A layer whose mask forgets causality."""

    def __init__(self, attention: torch.nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, *args, attention_mask, **kwargs):
        length = kwargs["hidden_states"].shape[1]
        return self.attention(*args, attention_mask=torch.ones(1, 1, length, length, dtype=torch.bool), **kwargs)


def test_a_transformers_layer_without_a_causal_mask_is_seen_to_attend_to_the_future() -> None:
    model = tiny_llama()
    assert verdict(model)["future_selected"] == 0
    model.model.layers[1].self_attn = _Leaks(model.model.layers[1].self_attn)
    found = verdict(model)
    assert found["passed"] is False
    assert found["future_selected"] == 3 * 40 * 39 // 2


class _Rounds(torch.nn.Module):
    """An MLP whose rounding depends on all tokens, as that of experts does on how many are routed to them."""

    def __init__(self, mlp: torch.nn.Module, share: float) -> None:
        super().__init__()
        self.mlp, self.share = mlp, share

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.mlp(states) + self.share * states * torch.sin(1e3 * states.sum())


class _Decides(torch.nn.Module):
    """An MLP that hangs by its last digits, as a choice of experts or keys may."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.sin(1e7 * states)


def _rounding(share: float) -> torch.nn.Module:
    model = tiny_llama()
    model.model.layers[0].mlp = _Rounds(model.model.layers[0].mlp, share)
    model.model.layers[1].mlp = _Decides()
    return model


def test_rounding_that_later_layers_make_much_of_is_no_leak() -> None:
    found = verdict(_rounding(1e-6))
    assert found["max_logit_change"] > 1000 * found["tolerance"]
    assert found["passed"]
    assert 1e-8 < found["layer_change"] <= 2e-6


def test_a_layer_that_sees_later_tokens_by_more_than_rounding_is_one() -> None:
    found = verdict(_rounding(1e-3))
    assert (found["passed"], found["future_selected"]) == (False, 0)
    assert found["layer_change"] > 1e-5


def test_what_leaks_before_the_first_layer_or_after_the_last_is_seen_by_layer_too() -> None:
    for place in ("embed_tokens", "norm"):
        model = tiny_llama()
        getattr(model.model, place).register_forward_hook(lambda _, __, output: output + output.sum(1, keepdim=True))
        found = verdict(model)
        assert found["passed"] is False, place
        assert found["layer_change"] > 0.01, place


def test_layers_are_held_where_tokens_have_several_streams_or_layers_several_versions() -> None:
    random = torch.Generator().manual_seed(0)
    for shape, axis in (((1, 6, 4, 8), 1), ((4, 1, 6, 8), 2)):
        first = torch.randn(shape, generator=random)
        held, other, layer = HeldLayers((None, 2), (6, 6)), first.clone(), torch.nn.Identity()
        other.narrow(axis, 2, 4).mul_(3.0)  # from position 2 on; position 2 is held
        assert held.enter(layer, (), {"hidden_states": first})[1]["hidden_states"] is first
        (put_back,), _ = held.enter(layer, (other,), {})
        assert held.largest == pytest.approx(2.0)
        assert torch.equal(put_back.narrow(axis, 0, 3), first.narrow(axis, 0, 3))
        assert torch.equal(put_back.narrow(axis, 3, 3), other.narrow(axis, 3, 3))
        assert held.enter(layer, (other,), {}) is None


def test_one_long_sample_is_audited_and_the_beginning_of_others() -> None:
    lengths: list[int] = []

    class Watched(ResearchModel):
        def trace(self, input_ids: torch.Tensor, select: bool = True) -> Trace:
            lengths.append(input_ids.shape[1])
            return Trace(torch.zeros(1, input_ids.shape[1], 31), super().trace(input_ids % 31, select).layers)

    model = Watched(layers=1)
    model.places = torch.nn.Embedding(5000, 32)
    assert verdict(model, [[1] * 1500] * 5)["positions_checked"] == 2 + 5
    assert lengths == [1024] * (1 + 2) + [64] * (1 + 5)
    lengths.clear()
    verdict(model, [[1] * 100])
    assert lengths == [100] * (1 + 2) + [64] * (1 + 5)
    model.index_topk = 600
    lengths.clear()
    verdict(model, [[1] * 1500])
    assert set(lengths) == {1200}


class _LongOnly(ResearchModel):
    """Takes another path for long sequences, whose last queries see the token after them; its trace tells nothing."""

    def trace(self, input_ids: torch.Tensor, select: bool = True) -> Trace:
        told = super().trace(input_ids, select)
        if input_ids.shape[1] <= 100:
            return told
        late = torch.arange(input_ids.shape[1], device=input_ids.device) >= 150
        after = self.tokens(input_ids).roll(-1, 1) @ self.tokens.weight.T
        return Trace(told.logits + after * late[:, None], told.layers)


def test_what_only_long_samples_leak_is_caught() -> None:
    model = _LongOnly(layers=1).eval()
    model.places = torch.nn.Embedding(500, 32)
    found = verdict(model, sequences(200))
    assert (found["passed"], found["future_selected"]) == (False, 0)
    assert verdict(model, sequences(90))["passed"]


def test_a_model_whose_logits_are_not_finite_does_not_pass() -> None:
    model = ResearchModel()
    torch.nn.init.constant_(model.tokens.weight, torch.nan)
    with pytest.raises(IndexscopeError, match="holds NaN"):
        verdict(model)
    broken = tiny_llama()
    torch.nn.init.constant_(broken.model.norm.weight, torch.nan)
    with pytest.raises(IndexscopeError, match="not finite"):
        verdict(broken)


@pytest.mark.parametrize("build", [tiny_dsa, tiny_llama])
def test_the_audit_leaves_model_and_running_captures_alone(build) -> None:
    model, ids = build(), torch.tensor(sequences(64))
    assert model.config._attn_implementation == "sdpa"
    before = verdict(model)
    assert model.config._attn_implementation == "sdpa"
    assert model(input_ids=ids).logits.isfinite().all()

    def logits() -> torch.Tensor:
        return torch.cat([part for _, part in captured.run(ids, capture_sparse, 4)], 1)

    captured = CapturedModel(model)
    alone, found = logits(), []
    audit = threading.Thread(target=lambda: found.append(verdict(captured)))
    audit.start()
    while audit.is_alive():
        assert torch.equal(logits(), alone)
    audit.join()
    assert found == [before]
    run = captured.run(ids, capture_sparse, 4)
    parts = [next(run)[1]]
    assert verdict(model) == before
    assert torch.equal(torch.cat([*parts, *(part for _, part in run)], 1), alone)


def test_sources_and_models_get_the_same_verdict() -> None:
    research = ResearchModel().eval()
    assert verdict(TracedModel(research)) == verdict(research)


def test_nothing_to_check_is_null_and_not_a_pass() -> None:
    found = verdict(ResearchModel(), [[5]])
    assert (found["passed"], found["future_selected"], found["positions_checked"]) == (None, None, 0)
