"""Tiny random checkpoints of many architectures, by the name of their configuration."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tests.analysis.conftest import sharpened

WINDOW = 9
PLAIN = dict(
    vocab_size=97, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, pad_token_id=0,
)  # fmt: skip
WIDE = PLAIN | dict(head_dim=12)
SLIDING = WIDE | dict(sliding_window=WINDOW)
MOE = WIDE | dict(
    moe_intermediate_size=32, num_experts=4, num_local_experts=4, n_routed_experts=4, num_experts_per_tok=2
)
GPT = dict(vocab_size=97, n_embd=48, n_layer=2, n_head=4, n_positions=512)
MAMBA = dict(mamba_n_heads=8, mamba_d_head=12, mamba_n_groups=1, mamba_d_state=8, mamba_chunk_size=8)
MLA = dict(
    num_key_value_heads=4, q_lora_rank=32, kv_lora_rank=24, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=12,
    n_group=1, topk_group=1, first_k_dense_replace=1, num_experts_per_tok=2, moe_intermediate_size=32,
    n_routed_experts=4,
)  # fmt: skip
SECOND = ["linear_attention", "full_attention"]
LINEAR = dict(
    layer_types=SECOND, linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2,
    linear_num_value_heads=4,
)  # fmt: skip

DENSE = {
    "llama": WIDE,
    "qwen2": PLAIN,
    "qwen3": WIDE,
    "qwen3_moe": MOE,
    "gemma2": SLIDING | dict(query_pre_attn_scalar=12, attn_logit_softcapping=5.0),
    "gemma3_text": SLIDING | dict(num_hidden_layers=3, layer_types=["sliding_attention"] * 2 + ["full_attention"]),
    "gpt2": GPT,
    "gpt_bigcode": GPT,
    "gpt_neox": PLAIN,
    "gpt_oss": MOE | dict(sliding_window=WINDOW),
    "mistral": SLIDING,
    "mixtral": MOE,
    "deepseek_v3": PLAIN | MLA,
    "phi": PLAIN,
    "phi3": PLAIN,
    "olmo": PLAIN,
    "olmo2": PLAIN,
    "olmo3": PLAIN | dict(sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"]),
    "cohere": PLAIN,
    "cohere2": SLIDING | dict(layer_types=["sliding_attention", "full_attention"]),
    "stablelm": PLAIN | dict(partial_rotary_factor=1 / 3),
    "granite": PLAIN | dict(attention_multiplier=0.2),
    "starcoder2": PLAIN | dict(sliding_window=WINDOW),
    "smollm3": PLAIN,
    "opt": dict(
        vocab_size=97, hidden_size=48, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512, word_embed_proj_dim=48,
    ),
    "glm4_moe": MOE | dict(n_group=1, topk_group=1, first_k_dense_replace=1),
    "ernie4_5": PLAIN,
    "exaone4": SLIDING | dict(layer_types=["sliding_attention", "full_attention"]),
    "nemotron": PLAIN,
    "minimax_m2": MOE,
    "llama4_text": MOE | dict(intermediate_size_mlp=64, attention_chunk_size=16),
    "doge": WIDE,
    "afmoe": MOE | dict(sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"]),
    "mimo_v2_flash": SLIDING | MOE,
}  # fmt: skip

# Layers that attend, and those that do not.
HYBRID = {
    "qwen3_next": (
        MOE | LINEAR | dict(shared_expert_intermediate_size=32), [1], [0],
    ),
    "lfm2": (PLAIN | dict(layer_types=["conv", "full_attention"], block_multiple_of=8), [1], [0]),
    "granitemoehybrid": (
        MOE | MAMBA | dict(layer_types=["mamba", "attention"], shared_intermediate_size=32, attention_multiplier=0.2),
        [1], [0],
    ),
    "falcon_h1": (WIDE | MAMBA | dict(mamba_d_ssm=96), [0, 1], []),
    "nemotron_h": (WIDE, [2], [0, 1, 3]),
    "zamba2": (
        PLAIN | dict(
            num_hidden_layers=4, layers_block_type=["mamba", "hybrid", "mamba", "hybrid"], mamba_d_state=8,
            mamba_headdim=12, n_mamba_heads=8, mamba_ngroups=1, num_mem_blocks=1, chunk_size=8,
            use_mamba_kernels=False, attention_hidden_size=96, attention_head_dim=24,
        ), [1, 3], [0, 2],
    ),
    "jamba": (
        MOE | dict(attn_layer_period=2, attn_layer_offset=1, use_mamba_kernels=False, mamba_d_state=8, mamba_dt_rank=4),
        [1], [0],
    ),
    "bamba": (PLAIN | MAMBA | dict(attn_layer_indices=[1]), [1], [0]),
    "recurrent_gemma": (
        WIDE | dict(attention_window_size=WINDOW, block_types=["recurrent", "attention"], lru_width=48), [1], [0],
    ),
    "minimax": (MOE | dict(layer_types=SECOND, block_size=8), [1], [0]),
    "olmo_hybrid": (PLAIN, [1], [0]),
    "qwen3_5_text": (WIDE | LINEAR, [1], [0]),
    "kimi_linear": (PLAIN | MLA | LINEAR | dict(num_experts=4, linear_num_heads=4, linear_head_dim=12), [1], [0]),
    "bailing_hybrid": (PLAIN | MLA | LINEAR | dict(head_dim=12, num_experts=4), [1], [0]),
    "inkling_text": (
        MOE | dict(
            swa_num_attention_heads=4, swa_num_key_value_heads=2, swa_head_dim=12, sliding_window_size=WINDOW, d_rel=4,
            rel_extent=16, layer_types=["hybrid_sliding", "hybrid"], n_shared_experts=1,
        ), [0, 1], [],
    ),
}  # fmt: skip

# No layer of these reaches the attention interface of transformers, which would be the way to capture it.
UNCAPTURED = {
    "bloom": dict(vocab_size=97, hidden_size=48, n_layer=2, n_head=4),
    "mpt": dict(vocab_size=97, d_model=48, n_layers=2, n_heads=4, max_seq_len=512, expansion_ratio=2),
    "falcon": PLAIN,
    "gptj": GPT | dict(rotary_dim=4),
    "codegen": GPT | dict(rotary_dim=4),
    "gpt_neo": dict(
        vocab_size=97, hidden_size=48, num_layers=2, num_heads=4, max_position_embeddings=512,
        attention_types=[[["global", "local"], 1]], window_size=WINDOW, intermediate_size=64,
    ),
    "xglm": dict(
        vocab_size=97, d_model=48, ffn_dim=64, num_layers=2, attention_heads=4, max_position_embeddings=512
    ),
    "mamba": dict(vocab_size=97, hidden_size=48, num_hidden_layers=2),
}  # fmt: skip


def tiny(name: str) -> PreTrainedModel:
    config = HYBRID[name][0] if name in HYBRID else (DENSE | UNCAPTURED)[name]
    torch.manual_seed(0)
    return sharpened(AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **config)))
