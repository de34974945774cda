"""Fitting lowers the divergence that it says it lowers, beats chance, and goes on where it was stopped."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from indexscope.analysis.capture import AttentionChunk, CapturedModel, capture_dense
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.rows import AttentionRows
from indexscope.analysis.fitting.held_out import held_out_sums
from indexscope.analysis.fitting.loss import divergence, head_mean, rows_of
from indexscope.analysis.fitting.selector import lay_over
from indexscope.analysis.fitting.settings import IndexerSize, TrainingSettings
from indexscope.analysis.fitting.train import Fitting, schedule
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample
from tests.analysis.capture.tiny_architectures import tiny
from tests.analysis.capture.tiny_families import FAMILIES

LENGTH, TOPK = 48, 8
SIZES = (IndexerSize(heads=2, dim=16), IndexerSize(heads=1, dim=8))
SETTINGS = TrainingSettings(dense=30, sparse=10, batch=2, queries=24, chunk=20, learning_rate=1e-2)


def sequences(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(97, (count, LENGTH), generator=torch.Generator().manual_seed(seed))


def fit(model: PreTrainedModel, steps: int | None = None, settings: TrainingSettings = SETTINGS) -> Fitting:
    fitting = Fitting(model, SIZES, (TOPK,), settings)
    for step in fitting.steps[:steps]:
        fitting.step(step, sequences(16))
    return fitting


def recall(fitting: Fitting, held_out: torch.Tensor) -> np.ndarray:
    """Selected, oracle and random recall, [indexers, layers, 3]."""
    found = fitting.measure(list(held_out), LENGTH)
    sums = np.array([[[one.recalls[layer, TOPK] for layer in fitting.places.first] for one in each] for each in found])
    return sums.sum(1)[..., :3] / sums.sum(1)[..., 3:]


def test_the_loss_and_its_gradient_are_those_of_the_definition_in_float64() -> None:
    random = torch.Generator().manual_seed(0)
    target = torch.rand((2, 3, 7), generator=random).double()
    scores = torch.randn((2, 3, 7), generator=random).double().requires_grad_()
    within = torch.rand((2, 3, 7), generator=random) > 0.3
    within[0, 0] = False
    kl = divergence(target, scores, within)
    kl.sum().backward()
    assert scores.grad is not None
    for batch in range(2):
        for query in range(3):
            keys = [key for key in range(7) if within[batch, query, key]]
            p = np.array([float(target[batch, query, key]) for key in keys])
            i = np.array([float(scores[batch, query, key].detach()) for key in keys])
            if not keys:
                assert float(kl[batch, query].detach()) == 0.0
                assert not bool(scores.grad[batch, query].any())
                continue
            p, q = p / p.sum(), np.exp(i) / np.exp(i).sum()
            assert float(kl[batch, query].detach()) == pytest.approx(float((p * np.log(p / q)).sum()), abs=1e-12)
            # d KL / d I = q - p
            np.testing.assert_allclose(scores.grad[batch, query, keys].numpy(), q - p, atol=1e-12)
    assert not bool(scores.grad[~within].any())


def test_the_target_of_some_queries_is_that_of_all_at_their_places() -> None:
    for name in ("llama", "gemma2"):
        rows, seen = torch.tensor([1, 4, 11]), []

        def observe(chunk: AttentionChunk, rows: torch.Tensor = rows, seen: list[bool] = seen) -> torch.Tensor:
            part = head_mean(rows_of(chunk, rows))
            seen.append(bool(torch.allclose(part, AttentionRows(chunk).mean[:, rows], atol=1e-7)))
            return capture_dense(chunk)

        for _ in CapturedModel(tiny(name)).run(sequences(2), observe, 16):
            pass
        assert len(seen) == 6
        assert all(seen)


def kept(one: Any, gradients: list[torch.Tensor], rate: float) -> None:
    gradients.extend(parameter.grad.clone() for parameter in one.parameters)


def test_one_step_has_the_gradient_of_the_whole_sequence_however_it_is_cut() -> None:
    """All queries are drawn, so that only rounding differs between one chunk and many."""
    moved = []
    for chunk in (LENGTH, 12):
        settings = SETTINGS.model_copy(update={"queries": LENGTH, "chunk": chunk, "learning_rate": 1e-3})
        fitting = Fitting(tiny("llama"), SIZES, (TOPK,), settings)
        gradients: list[torch.Tensor] = []
        for one in fitting.trained:
            one.update = partial(kept, one, gradients)  # type: ignore[method-assign]
        fitting.step(fitting.steps[0], sequences(16))
        moved.append(gradients)
    assert len(moved[0]) == len(moved[1]) == 2 * 2 * 5
    for one, other in zip(*moved, strict=True):
        assert float(one.abs().max()) > 0
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_all_indexers_of_a_sweep_are_trained_as_if_each_were_alone() -> None:
    together = fit(tiny("llama"), 5)
    alone = Fitting(tiny("llama"), SIZES[1:], (TOPK,), SETTINGS)
    for step in alone.steps[:5]:
        alone.step(step, sequences(16))
    one, other = together.fitted(1).weights, alone.fitted(0).weights
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def total_kl(fitting: Fitting, held_out: torch.Tensor) -> float:
    return sum(one.kl[layer][0] for one in fitting.measure(list(held_out), LENGTH)[0] for layer in fitting.places.first)


@pytest.mark.parametrize("name", ["llama", "gpt2", "deepseek_v32", "qwen3_next", "llama4_text"])
def test_fitting_leaves_the_body_alone_and_beats_chance_on_held_out_tokens(name: str) -> None:
    model = FAMILIES[name]() if name in FAMILIES else tiny(name)
    body = {key: one.clone() for key, one in model.state_dict().items()}
    changes = {"dense": 30, "sparse": 6, "queries": LENGTH, "chunk": LENGTH, "learning_rate": 3e-2}
    fitting = Fitting(model, SIZES[:1], (TOPK,), SETTINGS.model_copy(update=changes))
    held_out = sequences(6, seed=1)
    before = total_kl(fitting, held_out)
    rows = [row for step in fitting.steps for row in fitting.step(step, sequences(64))]
    # Random weights attend to nothing that a few heads could tell: what is left to learn is little, but it is learnt.
    assert total_kl(fitting, held_out) < 0.95 * before
    selected, oracle, random = np.moveaxis(recall(fitting, held_out)[0], -1, 0)
    assert (selected <= oracle + 1e-9).all()
    assert (selected > random).all()
    assert {row["stage"] for row in rows} == {"dense", "sparse"}
    assert len(rows) == len(fitting.places.first) * 36
    fitting.close()
    left = model.state_dict()
    for key in body.keys() - {key for key in body if ".indexer." in key}:
        assert torch.equal(left[key], body[key]), key


def test_what_is_attended_for_a_known_reason_is_found() -> None:
    """Attention that falls on the tokens of one kind alone: the indexer learns to tell them from the hidden states."""
    model = tiny("llama")
    marked = 7
    with torch.no_grad():
        for layer in model.model.layers:
            attention = layer.self_attn
            attention.q_proj.weight.zero_()
            attention.o_proj.weight.zero_()
        embedding = model.model.embed_tokens.weight
        embedding[:, 0] = 1.0
        embedding[:, 1] = 0.0
        embedding[marked, 1] = 6.0
        for layer in model.model.layers:
            layer.input_layernorm.weight.fill_(1.0)
            layer.mlp.down_proj.weight.zero_()
            # Slowly turning dimensions: queries ask for what the marked tokens' keys have, wherever they are.
            layer.self_attn.q_proj.weight[5::12, 0] = 4.0
            layer.self_attn.k_proj.weight[5::12, 1] = 4.0
    ids = torch.where(
        torch.rand((32, LENGTH), generator=torch.Generator().manual_seed(2)) < 0.12, marked, sequences(32)
    )
    fitting = Fitting(model, SIZES, (TOPK,), SETTINGS.model_copy(update={"dense": 60, "sparse": 0, "chunk": LENGTH}))
    for step in fitting.steps:
        fitting.step(step, ids[:24])
    sums = fitting.measure(list(ids[24:]), LENGTH)
    for each in sums:
        total = np.array([[one.recalls[layer, TOPK] for layer in (0, 1)] for one in each]).sum(0)
        assert (total[:, 0] / total[:, 1] > 0.93).all()
        assert (total[:, 2] / total[:, 1] < 0.6).all()


def test_a_run_that_goes_on_from_its_state_ends_with_the_same_bytes() -> None:
    short = SETTINGS.model_copy(update={"dense": 12, "sparse": 6})
    whole = fit(tiny("llama"), settings=short).state()
    for stop in (7, 15):
        first = fit(tiny("llama"), stop, short).state()
        going = Fitting(tiny("llama"), SIZES, (TOPK,), short)
        going.restore(first)
        for step in going.steps[stop:]:
            going.step(step, sequences(16))
        then = going.state()
        assert then.keys() == whole.keys()
        assert all(torch.equal(then[name], whole[name]) for name in whole)


def test_held_out_recall_is_what_a_study_of_the_laid_over_model_says() -> None:
    fitting = fit(tiny("llama"), 20)
    fitted = fitting.fitted(0)
    held_out = sequences(3, seed=1)
    model = lay_over(tiny("llama"), fitted, TOPK)
    found = [held_out_sums(model, tokens, TOPK, 16) for tokens in held_out]
    samples = [Sample(index, str(index), tuple(tokens.tolist())) for index, tokens in enumerate(held_out)]
    table = extract_samples(model, samples, ExtractSettings(chunk=16))["indexer"]
    for index, sums in enumerate(found):
        for layer in (0, 1):
            rows = table.filter(sample=index, layer=layer)
            selected, oracle, random, queries = sums.recalls[layer, TOPK]
            weight = rows["queries_in_effect"]
            assert queries == weight.sum()
            for name, ours in (("selection_recall", selected), ("oracle_recall", oracle), ("random_recall", random)):
                assert ours == pytest.approx((rows[name] * weight).sum(), rel=1e-5)


def test_the_steps_are_the_dense_ones_then_the_sparse_ones_of_each_indexer_over_all_numbers_of_keys() -> None:
    steps = schedule(TrainingSettings(dense=2, sparse=3), (32, 64), 2)
    assert [(step.stage, step.indexer, step.topk) for step in steps] == [
        ("dense", None, None), ("dense", None, None), ("sparse", 0, 32), ("sparse", 0, 64), ("sparse", 0, 32),
        ("sparse", 1, 32), ("sparse", 1, 64), ("sparse", 1, 32),
    ]  # fmt: skip
    assert [step.number for step in steps] == list(range(8))


def test_every_epoch_shows_every_sequence_once() -> None:
    fitting = Fitting(tiny("llama"), SIZES, (TOPK,), SETTINGS)
    drawn = torch.cat([fitting._drawn(step, 10) for step in fitting.steps[:5]])
    assert sorted(drawn.tolist()) == list(range(10))
    assert fitting._drawn(fitting.steps[5], 10).tolist() != drawn[:2].tolist()


def test_a_fitted_indexer_keeps_its_weights_on_the_way_through_its_parts() -> None:
    fitted = fit(tiny("llama"), 2).fitted(0)
    scorers = fitted.scorers()
    assert sorted(scorers) == [0, 1]
    for name, one in fitted.weights.items():
        layer, own = name.removeprefix("layers.").split(".", 1)
        assert torch.equal(scorers[int(layer)].state_dict()[own], one)
