"""A built-in model: the frozen body, and one variant's lightning indexers fitted to it."""

from __future__ import annotations

from dataclasses import replace

import torch
from transformers import DeepseekV32ForCausalLM

from indexscope.analysis.demo.pretrain import Progress
from indexscope.analysis.demo.recipe import DemoRecipe, IndexerVariant, demo_config
from indexscope.analysis.fitting.export import deepseek_v32
from indexscope.analysis.fitting.settings import IndexerSize, TrainingSettings
from indexscope.analysis.fitting.train import Fitting


def with_body(body: dict[str, torch.Tensor], recipe: DemoRecipe, variant: IndexerVariant) -> DeepseekV32ForCausalLM:
    """A model with a pre-trained body, rounded to bfloat16 as it is shipped, and indexers to be fitted."""
    torch.manual_seed(recipe.seed)
    model = DeepseekV32ForCausalLM(demo_config(recipe, variant))
    missing = model.load_state_dict(body, strict=False).missing_keys
    unfitted = [name for name in missing if ".indexer." not in name and name != "lm_head.weight"]
    if unfitted:
        raise ValueError(f"the pre-trained body lacks {unfitted}")
    return model.to(torch.bfloat16).float().eval()


def fit_variant(
    model: DeepseekV32ForCausalLM,
    sequences: torch.Tensor,
    recipe: DemoRecipe,
    variant: IndexerVariant,
    progress: Progress | None = None,
) -> DeepseekV32ForCausalLM:
    """Fit every layer's indexer to its dense attention, with the body frozen (`indexscope.analysis.fitting`).

    Args:
        model: Of `with_body`; its indexers are taken out.
        sequences: Training tokens, [sequences, context], int64.
        recipe: Steps, batch and learning rate.
        variant: The indexer.
        progress: Called with (step, steps, KL in nats averaged over layers).

    Returns:
        The model with fitted indexers, rounded to bfloat16 as they are shipped.
    """
    settings = TrainingSettings(
        dense=recipe.indexer_steps,
        sparse=0,
        batch=recipe.indexer_batch,
        queries=recipe.context,
        chunk=recipe.context,
        learning_rate=recipe.indexer_learning_rate,
        seed=recipe.seed,
    )
    size = IndexerSize(heads=variant.heads, dim=variant.dim)
    fitting = Fitting(model, [size], (recipe.index_topk,), settings)
    for step in fitting.steps:
        rows = fitting.step(step, sequences)
        if progress is not None:
            progress(step.number + 1, len(fitting.steps), sum(row["kl"] for row in rows) / len(rows))
    fitted = fitting.fitted(0)
    fitting.close()
    rounded = {name: one.to(torch.bfloat16).float() for name, one in fitted.weights.items()}
    return deepseek_v32(model, replace(fitted, weights=rounded), recipe.index_topk)
