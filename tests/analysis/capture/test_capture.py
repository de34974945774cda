from __future__ import annotations

import polars as pl
import pytest
import torch
from transformers import PreTrainedModel

from indexscope.analysis.capture import AttentionChunk, CapturedModel, capture_dense, capture_sparse, own_attention
from indexscope.analysis.capture.audit import audit_causality
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.profile import flops_formula, profile_model
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.conftest import tiny_dsa, tiny_gpt2, tiny_llama


def tokens(length: int, batch: int = 1, seed: int = 1) -> torch.Tensor:
    return torch.randint(97, (batch, length), generator=torch.Generator().manual_seed(seed))


def captured_logits(model: PreTrainedModel, ids: torch.Tensor, chunk: int, **options: bool) -> torch.Tensor:
    observer = capture_sparse if options.get("select", True) else capture_dense
    return torch.cat([logits for _, logits in CapturedModel(model).run(ids, observer, chunk, **options)], 1)


@pytest.mark.parametrize("build", [tiny_dsa, tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("chunk", [7, 16, 64])
def test_captured_logits_are_the_models_own(build, chunk: int) -> None:
    model, ids = build(), tokens(50, batch=2)
    with torch.inference_mode():
        own = model(input_ids=ids).logits
    assert torch.allclose(captured_logits(model, ids, chunk), own, atol=2e-4)


def test_without_selection_the_model_is_its_dense_self() -> None:
    model, ids = tiny_dsa(), tokens(40)
    dense = tiny_dsa(topk=512)
    with torch.inference_mode():
        expected = dense(input_ids=ids).logits
    assert torch.allclose(captured_logits(model, ids, 16, select=False), expected, atol=2e-4)
    assert not torch.allclose(captured_logits(model, ids, 16), expected, atol=1e-2)


def test_scores_and_selection_are_those_of_the_indexer(dsa) -> None:
    ids, seen = tokens(30), {}

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        seen[chunk.layer] = (chunk.scores.clone(), chunk.selected.clone())
        return capture_sparse(chunk)

    for _ in CapturedModel(dsa).run(ids, observe, 64):
        pass
    assert sorted(seen) == [0, 1, 2]
    future = torch.ones(30, 30, dtype=torch.bool).triu(1)
    for scores, selected in seen.values():
        assert torch.isneginf(scores[0][future]).all()
        best = scores[0].topk(8).indices
        for t in range(30):
            assert set(selected[0, 0, t].nonzero().flatten().tolist()) == set(best[t][: t + 1].tolist()) - set(
                range(t + 1, 30)
            )
            assert selected[0, 0, t].sum() == min(8, t + 1)


def test_a_model_called_outside_a_capture_says_so(dsa) -> None:
    CapturedModel(dsa)
    with pytest.raises(Exception, match="outside a capture"):
        dsa(input_ids=tokens(4))
    with own_attention(dsa):
        assert dsa(input_ids=tokens(4)).logits.isfinite().all()


def test_facts_count_what_is_there(dsa, llama) -> None:
    facts = model_facts(dsa).row(0, named=True)
    per_layer = 32 * 8 * 16 + 48 * 16 + 2 * 16 + 48 * 8
    assert facts["indexer_parameters"] == 3 * per_layer
    assert (facts["key_width"], facts["value_width"], facts["index_topk"]) == (24, 12, 8)
    dense = model_facts(llama).row(0, named=True)
    assert (dense["family"], dense["indexer_parameters"], dense["indexer_heads"]) == ("llama", 0, None)
    assert dense["attention_parameters"] == 2 * (48 * 48 * 2 + 48 * 24 * 2)


def test_flops_formula_counts_pairs_by_hand() -> None:
    """As the code here runs: no latents, and every operation counts whole."""
    facts = {
        "parameters": 1000, "indexer_parameters": 10, "attention_parameters": 100, "layers": 1, "attention_heads": 2,
        "key_width": 3, "value_width": 5, "indexer_layers": 1, "indexer_heads": 4, "indexer_dim": 6, "index_topk": 2,
        "entry": "token", "indexer_precision": "fp8",
    }  # fmt: skip
    layers = pl.DataFrame(
        {
            "attention_heads": [2],
            "key_width": [3],
            "value_width": [5],
            "latent_key_width": [8],
            "latent_value_width": [7],
            "window": [None],
            "attention_chunk": [None],
            "selects": [True],
        }
    )
    flops = flops_formula(facts, 4, layers, {"indexer": 20.0, "attention": 200.0, "rest": 1780.0})
    assert flops["indexer"] == 2 * 10 * 4 + (2 * 4 * 6 + 2 * 4) * (1 + 2 + 3 + 4)
    assert flops["attention"] == 2 * 100 * 4 + 2 * 2 * (3 + 5) * (1 + 2 + 2 + 2)
    assert flops["model"] == flops["indexer"] + flops["attention"] + 2 * 890 * 4


def test_counted_flops_are_the_executed_products(dsa) -> None:
    profile = profile_model(dsa, ExtractSettings(profile_lengths=(32, 1024), profile_repeats=1))
    assert profile["length"].unique().to_list() == [32], "1024 is beyond the model's positions"
    counted = dict(zip(profile["component"], profile["flops_counted"], strict=True))
    products = 2 * 32 * (32 * 128 + 48 * 16 + 48 * 8) + 2 * 32 * 32 * 8 * 16 + 2 * 32 * 32 * 8
    assert counted["indexer"] == 3 * products
    assert (profile["milliseconds"] > 0).all()


class _SeesTheFuture(torch.nn.Module):
    """An indexer whose topk is the only mask: its scores forget that future keys are not eligible."""

    def __init__(self, indexer: torch.nn.Module) -> None:
        super().__init__()
        self.indexer = indexer

    def forward(self, hidden, q_resid, positions, mask, *args, **kwargs):
        return self.indexer(hidden, q_resid, positions, torch.ones_like(mask), *args, **kwargs)


def test_the_audit_passes_a_causal_model_and_catches_one_that_sees_the_future() -> None:
    sequences = [tokens(40, seed=seed)[0].tolist() for seed in range(3)]
    model = tiny_dsa()
    verdict = audit_causality(model, sequences).row(0, named=True)
    assert verdict["passed"]
    assert verdict["max_logit_change"] <= verdict["tolerance"]
    for layer in model.model.layers:
        layer.self_attn.indexer = _SeesTheFuture(layer.self_attn.indexer)
    # Selection still leaks: which past keys are chosen depends on how many future ones were.
    caught = audit_causality(model, sequences).row(0, named=True)
    assert not caught["passed"]
    assert caught["max_logit_change"] > 100 * caught["tolerance"]


def test_the_audit_of_nothing_is_null_and_not_a_pass() -> None:
    assert audit_causality(tiny_llama(), [[5]]).row(0, named=True)["passed"] is None
