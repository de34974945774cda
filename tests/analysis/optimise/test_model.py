"""Edits run for real, on tiny models, against slow references."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from indexscope import IndexscopeError
from indexscope.analysis.capture import AttentionChunk, CapturedModel, capture_sparse
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.edits.apply import edited
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.flops import flops, shape
from indexscope.analysis.optimise.evaluations import Arm, Evaluations, Goal, estimate
from indexscope.analysis.optimise.model import Latency, ModelEvaluator, cost_of, space_of
from indexscope.analysis.optimise.search import Search
from indexscope.analysis.optimise.surrogate import Proposer
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.capture.tiny_architectures import DENSE
from tests.analysis.capture.tiny_families import LENGTH, deepseek_v32, glm_moe_dsa, minimax_m3, tokens

EDIT = Edit(indexer_heads={0: (1, 4)}, topk={0: 5, 1: 12}, share="FFS")


@dataclass(frozen=True)
class One:
    index: int
    name: str
    input_ids: tuple[int, ...]


def samples(count: int = 4) -> dict[int, One]:
    ids = tokens(batch=count).tolist()
    return {place: One(place, f"document {place}", tuple(row[: LENGTH - place])) for place, row in enumerate(ids)}


def logits(model: torch.nn.Module, ids: tuple[int, ...], chunk: int = 64) -> torch.Tensor:
    rows = [one for _, one in CapturedModel(model).run(torch.tensor([ids]), capture_sparse, chunk)]  # type: ignore[arg-type]
    return torch.cat(rows, 1)[0].double()


@pytest.mark.parametrize("chunk", [7, "auto"])
def test_the_loss_is_the_difference_of_likelihoods_by_position(chunk: int | str) -> None:
    model, data = deepseek_v32(), samples()
    settings = ExtractSettings.model_validate({"chunk": chunk})
    size = 64 if isinstance(chunk, str) else chunk
    found = list(ModelEvaluator(CapturedModel(model), data, "nll", settings).evaluate(EDIT, [0, 3]))
    for loss, sample in zip(found, (0, 3), strict=True):
        ids = data[sample].input_ids
        truth = torch.tensor(ids[1:])[:, None]
        before = -logits(model, ids, size).log_softmax(-1)[:-1].gather(-1, truth)[:, 0]
        with edited(model, EDIT):
            after = -logits(model, ids, size).log_softmax(-1)[:-1].gather(-1, truth)[:, 0]
        change = (after - before).numpy()
        assert sum(loss.sums) == pytest.approx(change.sum(), abs=1e-4)
        assert loss.weights[:5] == (1, 2, 4, 8, 16)
        assert sum(loss.weights) == len(ids) - 1
        assert loss.sums[3] == pytest.approx(change[7:15].sum(), abs=1e-4)


def test_kl_is_of_the_whole_distributions_and_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = deepseek_v32(), samples()
    kept = list(ModelEvaluator(CapturedModel(model), data, "output_kl", ExtractSettings()).evaluate(EDIT, [0, 1]))
    ids = data[0].input_ids
    before = logits(model, ids).log_softmax(-1)
    with edited(model, EDIT):
        after = logits(model, ids).log_softmax(-1)
    assert sum(kept[0].sums) == pytest.approx(float((before.exp() * (before - after)).sum()), abs=1e-4)
    assert min(kept[0].sums) > -1e-6 and sum(kept[0].weights) == len(ids)
    monkeypatch.setattr("indexscope.analysis.optimise.model.KEPT", 0)
    again = ModelEvaluator(CapturedModel(model), data, "output_kl", ExtractSettings()).evaluate(EDIT, [0, 1])
    assert list(again) == kept, "what is computed again is what would have been kept"


def test_skill_is_that_of_the_selection_against_dense_attention() -> None:
    model, data = deepseek_v32(), samples()
    (found,) = ModelEvaluator(CapturedModel(model), data, "skill", ExtractSettings(chunk=64)).evaluate(EDIT, [0])
    ids = torch.tensor([data[0].input_ids])

    def skill(bucket: range) -> list[float]:
        layers: dict[int, np.ndarray] = {}

        def observe(chunk: AttentionChunk) -> torch.Tensor:
            sums = layers.setdefault(chunk.layer, np.zeros(3))
            p = chunk.logits().masked_fill(~chunk.eligible, -torch.inf).softmax(-1)[0].mean(0).double()
            assert chunk.selected is not None
            for t in bucket:
                own = chunk.selected[0, 0, t]
                k, n = int(own.sum()), t + 1
                if n > k:
                    sums += (float(p[t][own].sum()), float(p[t].sort(descending=True).values[:k].sum()), k / n)
            return capture_sparse(chunk)

        for _ in CapturedModel(model).run(ids, observe, 64):
            pass
        return [float((r - c) / (o - c)) if o > c else np.nan for r, o, c in layers.values()]

    bucket = range(15, 31)
    before = skill(bucket)
    with edited(model, EDIT):
        after = skill(bucket)
    lost = np.nanmean(np.array(before) - np.array(after))
    assert found.weights[4] == 16
    assert found.sums[4] / 16 == pytest.approx(lost, abs=1e-5)
    assert found.weights[1] == 0, "with fewer keys than k nothing is selected"


def test_an_evaluation_leaves_the_model_as_it_was_even_where_it_is_broken_off() -> None:
    model, data = deepseek_v32(), samples()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluation = ModelEvaluator(CapturedModel(model), data, "nll", ExtractSettings()).evaluate(EDIT, [0, 1])
    next(evaluation)
    del evaluation
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("build", [deepseek_v32, glm_moe_dsa])
def test_the_cost_of_an_edit_is_that_of_the_edited_model(build: object) -> None:
    model = build()  # type: ignore[operator]
    source = CapturedModel(model)
    space, cost = space_of(source), cost_of(source, [LENGTH, 30], whole=True)
    layers = [layer.layer for layer in space.layers]
    share = "".join("S" if layer in (layers[-1], *space.sharing) else "F" for layer in range(space.depth))
    for edit in (
        Edit(),
        Edit(indexer_heads={layers[0]: (1, 4)}),
        Edit(topk={layers[0]: 5}),
        Edit(indexer_heads={layers[0]: (1, 4, 5)}, topk={layers[0]: 3}, share=share),
    ):
        with edited(model, edit):
            own = CapturedModel(model)
            told = flops(shape(model_facts(own), layer_facts(own)), [LENGTH, 30])
        assert cost.flops(edit) == pytest.approx(float((told.indexer + told.attention).sum()), rel=1e-9), edit
    assert space.point(edit) is not None


def test_pooled_families_and_models_without_indexers_are_refused_in_a_line() -> None:
    with pytest.raises(IndexscopeError, match="score a block as one entry"):
        space_of(CapturedModel(minimax_m3()))
    dense = LlamaForCausalLM(LlamaConfig(**DENSE["llama"]))  # type: ignore[arg-type]
    with pytest.raises(IndexscopeError, match="no indexer"):
        space_of(CapturedModel(dense))


def test_latency_is_relative_to_the_model_as_it_is_and_measured_once() -> None:
    source = CapturedModel(deepseek_v32())
    latency = Latency(source, samples()[0].input_ids, 64, repeats=3)
    found = latency(EDIT)
    assert 0.2 < found < 5
    assert latency(EDIT) == found and latency.known == {EDIT: found}


def test_a_real_head_that_alone_carries_the_selection_stays() -> None:
    model = deepseek_v32(num_hidden_layers=2, index_n_heads=4)
    with torch.no_grad():
        for module in model.modules():
            if type(module).__name__ == "DeepseekV32Indexer":
                module.weights_proj.weight[[0, 2, 3]] = 0.0  # type: ignore[index, union-attr]
    source, data = CapturedModel(model), samples(8)
    space, cost = space_of(source), cost_of(source, [LENGTH], whole=False)
    evaluator = ModelEvaluator(source, data, "output_kl", ExtractSettings())
    arm = Arm(Evaluations(evaluator), range(8), Goal(1e-6, cost.relative), 25)
    Search(space, Proposer(space, cost), arm).run()
    assert arm.best is not None
    assert arm.best.edit.indexer_heads == {0: (1,), 1: (1,)}
    assert estimate(evaluator.evaluate(arm.best.edit, range(8))).mean == pytest.approx(0.0, abs=1e-6)
