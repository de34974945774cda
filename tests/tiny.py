"""A random DeepSeek-V3.2 checkpoint that takes no time, and data to fit an indexer on."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from transformers import DeepseekV32Config, DeepseekV32ForCausalLM


def save_model(folder: Path, heads: int, seed: int) -> None:
    """A random model: 2 layers of 2 heads, an indexer of `heads` heads that selects 8 keys."""
    torch.manual_seed(seed)
    config = DeepseekV32Config(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=32,
        num_hidden_layers=2,
        first_k_dense_replace=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_nope_head_dim=8,
        qk_rope_head_dim=8,
        v_head_dim=8,
        n_routed_experts=4,
        n_group=1,
        topk_group=1,
        num_experts_per_tok=1,
        max_position_embeddings=128,
        index_topk=8,
        index_n_heads=heads,
        index_head_dim=16,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    DeepseekV32ForCausalLM(config).save_pretrained(folder)


def save_fit(folder: Path, text: str, sequences: int) -> Path:
    """Write `fit.yaml` with a text, and random sequences of 32 tokens beside it as `data.jsonl`; returns the file."""
    draw = random.Random(0)
    rows = [{"input_ids": [draw.randrange(1, 300) for _ in range(32)]} for _ in range(sequences)]
    (folder / "data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "fit.yaml").write_text(text)
    return folder / "fit.yaml"
