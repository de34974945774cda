"""Dense pre-training of the built-in models' body."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, DeepseekV32ForCausalLM

from indexscope.analysis.demo.recipe import DemoRecipe, demo_config

Progress = Callable[[int, int, float], None]
DENSE = "indexscope_dense_training"


class _NoIndexer(nn.Module):
    """Stands where the indexer will be: during dense training nothing is selected and nothing is spent on it."""

    def forward(self, hidden_states: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return hidden_states.new_zeros((0,), dtype=torch.int32)


def _dense_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    # torch's fused CPU kernel wants values as wide as queries; zero columns change nothing and make it 3 times as fast.
    wide = functional.pad(value, (0, query.shape[-1] - value.shape[-1]))
    output = functional.scaled_dot_product_attention(query, key, wide, is_causal=True, scale=scaling)
    return output[..., : value.shape[-1]].transpose(1, 2), None


def _unused_mask(**_: object) -> torch.Tensor:
    return torch.zeros((1, 1, 1, 1))


def pretrain(
    recipe: DemoRecipe, documents: Sequence[Sequence[int]], progress: Progress | None = None
) -> DeepseekV32ForCausalLM:
    """Train a model from nothing with dense causal attention and return it without indexers.

    Args:
        recipe: Architecture and training settings.
        documents: Token ids, one sequence a document.
        progress: Called with (step, steps, loss in nats per token) after each step.

    Returns:
        The model in float32; its layers' ``indexer`` is a stand-in until one is warmed up.
    """
    AttentionInterface.register(DENSE, _dense_attention)
    AttentionMaskInterface.register(DENSE, _unused_mask)
    torch.manual_seed(recipe.seed)
    model = DeepseekV32ForCausalLM(demo_config(recipe, recipe.variants[0]))
    for layer in model.model.layers:
        layer.self_attn.indexer = _NoIndexer()
    model.set_attn_implementation(DENSE)
    model.train()
    # Muon for the matrices inside the blocks, AdamW for embeddings and gains (Jordan et al. 2024).
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=recipe.learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    batches = training_batches(documents, recipe)
    for step in range(recipe.steps):
        scale = learning_rate_scale(step, recipe)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * scale
        batch = torch.from_numpy(next(batches))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(batch[:, :-1], use_cache=False).logits
        loss = functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if progress is not None:
            progress(step + 1, recipe.steps, float(loss.detach()))
    return model.eval()


def learning_rate_scale(step: int, recipe: DemoRecipe) -> float:
    """Linear warm-up, then a cosine to a twentieth."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))


def training_batches(documents: Sequence[Sequence[int]], recipe: DemoRecipe) -> Iterator[NDArray[np.int64]]:
    """Endless batches [batch, context + 1]: each epoch shuffles the documents anew and packs them end to end."""
    random = np.random.default_rng(recipe.seed)
    width = recipe.context + 1
    waiting: list[NDArray[np.int64]] = []
    while True:
        order = random.permutation(len(documents))
        stream = np.concatenate([np.asarray(documents[i], dtype=np.int64) for i in order])
        rows = stream[: len(stream) // width * width].reshape(-1, width)
        for row in random.permutation(len(rows)):
            waiting.append(rows[row])
            if len(waiting) == recipe.batch:
                yield np.stack(waiting)
                waiting = []
