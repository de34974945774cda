"""Tiny random checkpoints whose indexers have opinions: plain initialisation leaves every score a near tie."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    DeepseekV32Config,
    DeepseekV32ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)


def sharpened(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.5 if "embed" in name or "wte" in name else 1.4 * parameter.shape[1] ** -0.5)
    return model.eval()


# Eight indexer heads: with few, ReLU gives equal zeros at the k-th score, and topk breaks ties differently by chunk.
def tiny_dsa(layers: int = 3, topk: int = 8, heads: int = 4, index_heads: int = 8) -> DeepseekV32ForCausalLM:
    config = DeepseekV32Config(
        vocab_size=97, hidden_size=48, intermediate_size=64, moe_intermediate_size=32, num_hidden_layers=layers,
        first_k_dense_replace=layers, num_attention_heads=heads, num_key_value_heads=heads, q_lora_rank=32,
        kv_lora_rank=24, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=12, n_routed_experts=4, n_group=1,
        topk_group=1, num_experts_per_tok=1, max_position_embeddings=512, index_topk=topk, index_n_heads=index_heads,
        index_head_dim=16,
    )  # fmt: skip
    return sharpened(DeepseekV32ForCausalLM(config))


def tiny_llama(layers: int = 2) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=97, hidden_size=48, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    return sharpened(LlamaForCausalLM(config))


def tiny_gpt2(layers: int = 2) -> GPT2LMHeadModel:
    return sharpened(GPT2LMHeadModel(GPT2Config(vocab_size=97, n_embd=48, n_layer=layers, n_head=4, n_positions=512)))


@pytest.fixture(scope="session")
def dsa() -> DeepseekV32ForCausalLM:
    return tiny_dsa()


@pytest.fixture(scope="session")
def llama() -> LlamaForCausalLM:
    return tiny_llama()


@pytest.fixture(scope="session")
def gpt2() -> GPT2LMHeadModel:
    return tiny_gpt2()
