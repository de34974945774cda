"""Every family of lightning indexers, and two that also see, loads from its folder and runs as it was saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers as hf
from transformers import PreTrainedModel

from indexscope.storage.inputs.checkpoints import describe, load_model
from tests.analysis.capture.tiny_families import FAMILIES, minimax_m3, qwen4_exp, spread, tokens


def qwen4_that_sees() -> PreTrainedModel:
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 48}
    config = hf.Qwen4ExpConfig(text_config=qwen4_exp().config.to_dict(), vision_config=vision)
    return spread(hf.Qwen4ExpForConditionalGeneration, config)


def minimax_that_sees() -> PreTrainedModel:
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = hf.MiniMaxM3VLConfig(text_config=minimax_m3().config.to_dict(), vision_config=vision)
    return spread(hf.MiniMaxM3SparseForConditionalGeneration, config)


@pytest.mark.parametrize("build", [*FAMILIES.values(), qwen4_that_sees, minimax_that_sees], ids=lambda f: f.__name__)
def test_a_saved_family_loads_and_gives_the_same_logits(build: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    saved = build().eval()
    saved.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, device="cpu")
    with torch.inference_mode():
        expected, found = (model(input_ids=tokens(20)).logits for model in (saved, loaded))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
    # Three compressed entries of four tokens each, three blocks of four keys, or eight tokens.
    assert describe(tmp_path).selects_all_of == (12 if build.__name__.startswith(("deepseek_v4", "minimax")) else 8)
