"""A whole DeepSeek-V3.2 checkpoint from a body of multi-head latent attention and an indexer that was fitted to it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DeepseekV32Config, DeepseekV32ForCausalLM, PreTrainedModel

from indexscope.analysis.fitting.fitted import FittedIndexer, prefix

#: Families whose body has the layout of DeepSeek-V3.2's, name for name.
BODIES = ("deepseek_v3", "deepseek_v32")
#: What names of a body's own indexer, or of one that was laid over it, hold.
INDEXERS = (".indexer.", ".indexscope_scorer.")


def why_not(model: PreTrainedModel, fitted: FittedIndexer) -> str:
    """Why a fitted model is no deepseek_v32 checkpoint; nothing where it is one."""
    config = model.config
    if config.model_type not in BODIES:
        return f"{config.model_type} is not of the layout of deepseek_v3"
    if not config.q_lora_rank:
        return "its attention has no query latent"
    if getattr(config, "rope_interleave", True) is not True:
        return "its attention does not interleave RoPE"
    rope = tuple(range(config.qk_rope_head_dim // 2))
    if any(shape.source != "latent" or shape.rotary != rope for shape in fitted.shapes.values()):
        return f"an indexer of dim {fitted.dim} is narrower than its RoPE ({config.qk_rope_head_dim})"
    if len(fitted.shapes) != config.num_hidden_layers:
        return "it has layers without an indexer"
    return ""


def deepseek_v32(model: PreTrainedModel, fitted: FittedIndexer, topk: int) -> DeepseekV32ForCausalLM:
    """The model with the indexer as its own, which transformers runs without us.

    Args:
        model: The body; what is laid over it, and indexers of its own, are left out.
        fitted: For which `why_not` says nothing.
        topk: Keys of a query, which is a number of the configuration.
    """
    told: dict[str, Any] = model.config.to_dict()
    for name in ("model_type", "architectures", "transformers_version", "rope_interleave", "_name_or_path"):
        told.pop(name, None)
    told.update(index_topk=topk, index_n_heads=fitted.heads, index_head_dim=fitted.dim)
    weight = next(model.parameters())
    with torch.random.fork_rng(devices=[]):
        made = DeepseekV32ForCausalLM(DeepseekV32Config(**told)).to(weight.dtype)
    state = {name: one for name, one in model.state_dict().items() if not any(mark in name for mark in INDEXERS)}
    for layer in fitted.shapes:
        start = prefix(layer)
        for name, one in fitted.weights.items():
            if name.startswith(start):
                state[f"model.layers.{layer}.self_attn.indexer.{name.removeprefix(start)}"] = one.to(weight.dtype)
    made.load_state_dict(state)
    return made.eval()
