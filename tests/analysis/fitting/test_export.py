"""A fitted body of the DeepSeek-V3 layout is a DeepSeek-V3.2 that transformers runs by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from indexscope.analysis.capture import capture_dense, own_attention
from indexscope.analysis.fitting.export import deepseek_v32, why_not
from indexscope.analysis.fitting.selector import lay_over
from tests.analysis.capture.tiny_architectures import tiny
from tests.analysis.capture.tiny_families import FAMILIES, LENGTH, tokens
from tests.analysis.fitting.test_scorer import random_indexer, seen


@pytest.mark.parametrize("name", ["deepseek_v3", "deepseek_v32"])
def test_the_checkpoint_gives_the_selections_and_logits_of_the_laid_over_model(name: str, tmp_path: Path) -> None:
    model = FAMILIES[name]() if name in FAMILIES else tiny(name)
    fitted = random_indexer(model, 4, 16, 8)
    assert why_not(model, fitted) == ""
    deepseek_v32(model, fitted, 8).save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert type(loaded).__name__ == "DeepseekV32ForCausalLM"
    ids = tokens()
    lay_over(model, fitted, 8)
    # Attending to everything: where scores tie, two models may go on with other keys and part for good.
    ours, theirs = (seen(one, ids, LENGTH, capture_dense) for one in (model, loaded))
    assert len(ours) == len(theirs) == model.config.num_hidden_layers
    for layer, (mine,) in ours.items():
        (own,) = theirs[layer]
        assert mine.scores is not None
        assert own.scores is not None
        torch.testing.assert_close(mine.scores, own.scores, rtol=1e-4, atol=1e-5)
        edge = mine.scores.topk(8, -1).values
        gap = mine.scores.topk(9, -1).values[..., -1] < edge[..., -1] - 1e-4
        assert mine.selected is not None
        assert own.selected is not None
        assert float(gap.float().mean()) > 0.5
        assert torch.equal(mine.selected[:, 0][gap], own.selected[:, 0][gap])
    with own_attention(model), own_attention(loaded), torch.inference_mode():
        one = model(input_ids=ids, use_cache=False).logits
        other = loaded(input_ids=ids, use_cache=False).logits
    assert float((one - other).abs().amax(-1).median()) < 1e-3


def test_what_is_no_deepseek_v32_says_why() -> None:
    llama = tiny("llama")
    assert "llama is not of the layout" in why_not(llama, random_indexer(llama, 2, 16, 6))
    body = tiny("deepseek_v3")
    assert "narrower than its RoPE (8)" in why_not(body, random_indexer(body, 2, 4, 6))
