"""Stores of two kinds, tiny random checkpoints, and a tokenizer whose ids can be told by heart."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    DeepseekV32Config,
    DeepseekV32ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from indexscope.storage.store.store import Store
from tests.s3 import bucket, endpoint  # noqa: F401 - fixtures

VOCABULARY = 64


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store on disk and one on another filesystem."""
    return Store(tmp_path / "store" if request.param == "local" else f"memory://{uuid.uuid4().hex}/store")


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    """A store on disk."""
    return Store(tmp_path / "store")


def _model(family: str) -> Any:
    torch.manual_seed(0)
    if family == "llama":
        return LlamaForCausalLM(
            LlamaConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                vocab_size=VOCABULARY,
            )
        )
    if family == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0)
        )
    return DeepseekV32ForCausalLM(
        DeepseekV32Config(
            hidden_size=32,
            intermediate_size=64,
            moe_intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            q_lora_rank=16,
            kv_lora_rank=16,
            qk_rope_head_dim=8,
            qk_nope_head_dim=8,
            v_head_dim=8,
            index_n_heads=2,
            index_head_dim=16,
            index_topk=4,
            vocab_size=VOCABULARY,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_group=1,
            topk_group=1,
            n_shared_experts=1,
            first_k_dense_replace=1,
            max_position_embeddings=64,
        )
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Write a tiny random checkpoint of a family: "llama", "gpt2" or "deepseek_v32"."""

    def make(family: str = "llama", name: str = "checkpoint", **saving: Any) -> Path:
        folder = tmp_path / name
        _model(family).save_pretrained(folder, **saving)
        return folder

    return make


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Words w1 … w63 have ids 1 … 63; id 0 ends a text; other words are id 63."""
    vocabulary = {"<eos>": 0} | {f"w{index}": index for index in range(1, VOCABULARY)}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="w63"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<eos>")
