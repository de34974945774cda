"""Dense training of the built-in models' body: on text, then on text in which passages and answers come again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, DeepseekV32ForCausalLM

from indexscope.analysis.demo.copies import Row, mixed_batches
from indexscope.analysis.demo.recipe import DemoRecipe, demo_config

Progress = Callable[[int, int, float], None]
#: Token ids [batch, context + 1], and what each token counts, of the same shape; None where all count the same.
Batch = tuple[NDArray[np.int64], NDArray[np.float32] | None]
DENSE = "indexscope_dense_training"


@dataclass(frozen=True)
class Schedule:
    """Steps of a stage and their learning rate: a linear warm-up, then a cosine to a twentieth."""

    steps: int
    warmup: int
    peak: float

    def rate(self, step: int) -> float:
        """Learning rate of a step, from 0."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


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
    model = _model(recipe)
    batches = ((batch, None) for batch in training_batches(documents, recipe))
    return _trained(model, batches, Schedule(recipe.steps, recipe.warmup_steps, recipe.learning_rate), progress)


def learn_copies(
    recipe: DemoRecipe,
    body: Mapping[str, torch.Tensor],
    documents: Sequence[Sequence[int]],
    asked: Iterator[Row],
    progress: Progress | None = None,
) -> DeepseekV32ForCausalLM:
    """The second stage: train a body on, with copied passages and questions among its text.

    Args:
        recipe: Architecture and training settings.
        body: Weights that `pretrain` came to.
        documents: Token ids, one sequence a document.
        asked: Texts of context + 1 tokens with questions, endless.
        progress: Called with (step, steps, weighted loss in nats per token) after each step.

    Returns:
        As of `pretrain`.
    """
    model = _model(recipe)
    missing = model.load_state_dict(dict(body), strict=False).missing_keys
    if lacking := [name for name in missing if name != "lm_head.weight"]:  # which is the embedding
        raise ValueError(f"the pre-trained body lacks {lacking}")
    batches = mixed_batches(training_batches(documents, recipe, recipe.seed + 1), asked, recipe)
    schedule = Schedule(recipe.copy_steps, recipe.copy_warmup_steps, recipe.copy_learning_rate)
    return _trained(model, batches, schedule, progress)


def _model(recipe: DemoRecipe) -> DeepseekV32ForCausalLM:
    """A model with new weights that attends to every key, and stand-ins for indexers."""
    AttentionInterface.register(DENSE, _dense_attention)
    AttentionMaskInterface.register(DENSE, _unused_mask)
    torch.manual_seed(recipe.seed)
    model = DeepseekV32ForCausalLM(demo_config(recipe, recipe.variants[0]))
    for layer in model.model.layers:
        layer.self_attn.indexer = _NoIndexer()
    model.set_attn_implementation(DENSE)
    return model.train()


def _trained(
    model: DeepseekV32ForCausalLM, batches: Iterator[Batch], schedule: Schedule, progress: Progress | None
) -> DeepseekV32ForCausalLM:
    # Muon for the matrices inside the blocks, AdamW for embeddings and gains (Jordan et al. 2024).
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=schedule.peak, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=schedule.peak, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for step in range(schedule.steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step)
        ids, weights = next(batches)
        batch = torch.from_numpy(ids)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(batch[:, :-1], use_cache=False).logits
        loss = _loss(logits.float().flatten(0, 1), batch[:, 1:].flatten(), weights)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if progress is not None:
            progress(step + 1, schedule.steps, float(loss.detach()))
    return model.eval()


def _loss(logits: torch.Tensor, targets: torch.Tensor, weights: NDArray[np.float32] | None) -> torch.Tensor:
    """Mean over tokens, of what each counts."""
    if weights is None:
        return functional.cross_entropy(logits, targets)
    counts = torch.from_numpy(weights[:, 1:]).flatten()
    return (functional.cross_entropy(logits, targets, reduction="none") * counts).sum() / counts.sum()


def training_batches(
    documents: Sequence[Sequence[int]], recipe: DemoRecipe, seed: int | None = None
) -> Iterator[NDArray[np.int64]]:
    """Endless batches [batch, context + 1]: each epoch shuffles the documents anew and packs them end to end.

    Args:
        documents: Token ids, one sequence a document.
        recipe: Batch and context.
        seed: Of the order; by default the recipe's.
    """
    random = np.random.default_rng(recipe.seed if seed is None else seed)
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
