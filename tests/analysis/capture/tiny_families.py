"""Tiny random checkpoints of every indexer family of transformers, with sequences of 40 tokens longer than k."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from transformers import PreTrainedModel

from indexscope.analysis.capture import AttentionChunk, CapturedModel, capture_dense, capture_sparse
from tests.analysis.conftest import sharpened

LENGTH = 40
# What makes each family select everything: the dense model of the same weights.
EVERYTHING = {name: {"index_topk": 512} for name in ("deepseek_v32", "glm_moe_dsa", "axk2", "dots3_note", "hy_v4")}
EVERYTHING |= {name: {"index_topk": 512} for name in ("mistral_large4", "deepseek_v4", "glm5_next")}
EVERYTHING |= {"qwen4_exp": {"indexer_budget": 512}, "minimax_m3": {"index_topk_blocks": 128}}

MLA: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 48, "intermediate_size": 64, "moe_intermediate_size": 32,
    "num_attention_heads": 4, "num_key_value_heads": 4, "kv_lora_rank": 24, "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8, "v_head_dim": 12, "n_routed_experts": 4, "num_experts_per_tok": 1, "n_group": 1,
    "topk_group": 1, "max_position_embeddings": 512, "index_topk": 8, "index_n_heads": 8, "index_head_dim": 16,
    "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip


def spread(kind: type[PreTrainedModel], config: hf.PreTrainedConfig) -> PreTrainedModel:
    """Build, sharpen, and give every other parameter that starts out constant or unset a value of its own."""
    torch.manual_seed(0)
    model = sharpened(kind(config))
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "visual" in name or "vision" in name:
                continue
            if parameter.ndim == 3:
                parameter.copy_(torch.randn(parameter.shape, generator=random) * parameter.shape[-1] ** -0.5)
            elif "sinks" in name or "position_bias" in name or "kpool" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.5)
            elif not bool(parameter.isfinite().all()) or name.endswith((".hc_base", ".hc_scale", ".base", ".scale")):
                parameter.copy_(torch.rand(parameter.shape, generator=random) * 0.5 + 0.25)
    return model


def deepseek_v32(**changes: Any) -> PreTrainedModel:
    config = hf.DeepseekV32Config(
        **{**MLA, "num_hidden_layers": 3, "first_k_dense_replace": 3, "q_lora_rank": 32, **changes}
    )
    return spread(hf.DeepseekV32ForCausalLM, config)


def glm_moe_dsa(**changes: Any) -> PreTrainedModel:
    own = {
        "num_hidden_layers": 4,
        "first_k_dense_replace": 2,
        "q_lora_rank": 32,
        "indexer_types": ["full", "shared"] * 2,
    }
    return spread(hf.GlmMoeDsaForCausalLM, hf.GlmMoeDsaConfig(**{**MLA, **own, **changes}))


def axk2(**changes: Any) -> PreTrainedModel:
    own = {"num_hidden_layers": 3, "q_lora_rank": 32, "first_k_dense_replace": 2}
    return spread(hf.AXK2ForCausalLM, hf.AXK2Config(**{**MLA, **own, **changes}))


def dots3_note(**changes: Any) -> PreTrainedModel:
    own = {
        "num_hidden_layers": 4, "q_lora_rank": 32, "head_dim": 24, "sliding_window": 11,
        "mlp_layer_types": ["dense"] * 4,
        "layer_types": ["indexed_attention", "sliding_attention", "sliding_attention", "indexed_attention"],
        "shared_experts_intermediate_size": 32, "swa_num_attention_heads": 2, "swa_num_key_value_heads": 2,
        "swa_q_lora_rank": 24, "swa_kv_lora_rank": 16, "swa_head_dim": 20, "swa_qk_nope_head_dim": 12,
        "swa_qk_rope_head_dim": 8, "swa_v_head_dim": 10,
    }  # fmt: skip
    return spread(hf.Dots3NoteForCausalLM, hf.Dots3NoteTextConfig(**{**MLA, **own, **changes}))


def hy_v4(**changes: Any) -> PreTrainedModel:
    own = {"num_hidden_layers": 3, "q_lora_rank": 32, "hc_mult": 2, "indexer_types": ["full", "shared", "full"]}
    return spread(hf.HYV4ForCausalLM, hf.HYV4Config(**{**MLA, **own, **changes}))


def mistral_large4(**changes: Any) -> PreTrainedModel:
    own = {
        "num_hidden_layers": 4, "first_k_dense_replace": 4, "indexer_types": ["full", "full", "shared", "full"],
        "kv_source_layers": [0, 1, 1, 3],
    }  # fmt: skip
    text = hf.MistralLarge4TextConfig(**{**MLA, **own, **changes})
    vision = {
        "model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "head_dim": 8, "image_size": 16, "patch_size": 8,
    }  # fmt: skip
    config = hf.MistralLarge4Config(text_config=text.to_dict(), vision_config=vision)
    return spread(hf.MistralLarge4ForConditionalGeneration, config)


def deepseek_v4(**changes: Any) -> PreTrainedModel:
    own = {
        "vocab_size": 97, "hidden_size": 48, "moe_intermediate_size": 32, "num_hidden_layers": 3,
        "num_attention_heads": 4, "head_dim": 16, "q_lora_rank": 32, "n_routed_experts": 4, "num_experts_per_tok": 2,
        "layer_types": ["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"],
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 6},
        "partial_rotary_factor": 0.5, "hc_mult": 2, "sliding_window": 9, "o_groups": 2, "o_lora_rank": 16,
        "index_n_heads": 8, "index_head_dim": 16, "index_topk": 3, "max_position_embeddings": 512,
        "mlp_layer_types": ["moe"] * 3, "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip
    return spread(hf.DeepseekV4ForCausalLM, hf.DeepseekV4Config(**{**own, **changes}))


def glm5_next(**changes: Any) -> PreTrainedModel:
    own = {
        "num_hidden_layers": 4, "q_lora_rank": 32, "qk_rope_head_dim": 0, "qk_nope_head_dim": 16,
        "layer_types": ["linear_attention", "indexed_attention", "indexed_attention", "indexed_attention"],
        "indexer_types": ["full", "full", "shared", "full"], "mlp_layer_types": ["dense"] * 4, "linear_head_dim": 16,
        "linear_num_heads": 2, "hc_mult": 2, "index_kpool": 4,
    }  # fmt: skip
    text = hf.Glm5NextTextConfig(**{**MLA, **own, **changes})
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 48}
    config = hf.Glm5NextConfig(text_config=text.to_dict(), vision_config=vision)
    return spread(hf.Glm5NextForConditionalGeneration, config)


def qwen4_exp(**changes: Any) -> PreTrainedModel:
    own = {
        "vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "linear_key_head_dim": 8,
        "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "num_experts": 4,
        "num_experts_per_tok": 2, "layer_types": ["indexed_attention", "linear_attention", "indexed_attention"],
        "hc_count": 2, "hc_lowrank": 8, "indexer_n_heads": 8, "indexer_kv_heads": 1, "indexer_head_dim": 16,
        "indexer_budget": 8, "indexer_compress_ratio": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5,
                            "mrope_section": [2, 1, 1], "mrope_interleaved": True},
    }  # fmt: skip
    return spread(hf.Qwen4ExpForCausalLM, hf.Qwen4ExpTextConfig(**{**own, **changes}))


def minimax_m3(**changes: Any) -> PreTrainedModel:
    own = {
        "vocab_size": 97, "hidden_size": 48, "intermediate_size": 32, "dense_intermediate_size": 64,
        "shared_intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 16, "rotary_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2,
        "layer_types": ["full_attention", "minimax_m3_sparse", "minimax_m3_sparse"],
        "mlp_layer_types": ["dense", "sparse", "dense"], "index_n_heads": 2, "index_head_dim": 16,
        "index_block_size": 4, "index_topk_blocks": 3, "index_local_blocks": 1, "max_position_embeddings": 512,
        "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip
    return spread(hf.MiniMaxM3VLForCausalLM, hf.MiniMaxM3VLTextConfig(**{**own, **changes}))


FAMILIES: dict[str, Callable[..., PreTrainedModel]] = {
    builder.__name__: builder
    for builder in (
        deepseek_v32, glm_moe_dsa, axk2, dots3_note, hy_v4, mistral_large4, deepseek_v4, glm5_next, qwen4_exp,
        minimax_m3,
    )
}  # fmt: skip


def tokens(length: int = LENGTH, batch: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.randint(97, (batch, length), generator=torch.Generator().manual_seed(seed))


def record(
    model: PreTrainedModel, ids: torch.Tensor, chunk: int, **options: Any
) -> tuple[torch.Tensor, dict[int, list[AttentionChunk]]]:
    """Logits of a captured forward and each layer's chunks, in order."""
    seen: dict[int, list[AttentionChunk]] = {}
    attend = capture_sparse if options.get("select", True) else capture_dense

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        seen.setdefault(chunk.layer, []).append(chunk)
        return attend(chunk)

    logits = [logits for _, logits in CapturedModel(model).run(ids, observe, chunk, **options)]
    return torch.cat(logits, 1), seen
