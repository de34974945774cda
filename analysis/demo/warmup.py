"""The dense warm-up that fits a lightning indexer to a frozen model's attention."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import DeepseekV32ForCausalLM

from indexscope.analysis.capture import AttentionChunk, CapturedModel
from indexscope.analysis.capture.indexer import WatchTopk, indexers
from indexscope.analysis.demo.pretrain import Progress
from indexscope.analysis.demo.recipe import DemoRecipe, IndexerVariant, demo_config
from indexscope.analysis.features.rows import AttentionRows


def with_indexers(body: dict[str, torch.Tensor], recipe: DemoRecipe, variant: IndexerVariant) -> DeepseekV32ForCausalLM:
    """A model with a pre-trained body, rounded to bfloat16 as it is shipped, and fresh indexers of one variant."""
    torch.manual_seed(recipe.seed)
    model = DeepseekV32ForCausalLM(demo_config(recipe, variant))
    missing = model.load_state_dict(body, strict=False).missing_keys
    unfitted = [name for name in missing if ".indexer." not in name and name != "lm_head.weight"]
    if unfitted:
        raise ValueError(f"the pre-trained body lacks {unfitted}")
    return model.to(torch.bfloat16).float().eval()


def warm_up_indexers(
    model: DeepseekV32ForCausalLM, sequences: torch.Tensor, recipe: DemoRecipe, progress: Progress | None = None
) -> None:
    """Fit every layer's indexer to its dense attention, in place, with the body frozen.

    The loss is KL(head-mean attention || softmax of the index scores) over E_t, in nats, averaged over queries and
    summed over layers. Source: DeepSeek-V3.2-Exp technical report, dense warm-up stage.

    Args:
        model: Its attention stays dense throughout.
        sequences: Training tokens, [sequences, context], int64.
        recipe: Steps, batch and learning rate.
        progress: Called with (step, steps, loss averaged over layers).
    """
    model.requires_grad_(False)
    captured = CapturedModel(model)
    fitted = indexers(model)
    parameters = [parameter.requires_grad_() for indexer in fitted for parameter in indexer.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.indexer_learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    random = torch.Generator().manual_seed(recipe.seed)
    for step in range(recipe.indexer_steps):
        batch = sequences[torch.randint(len(sequences), (recipe.indexer_batch,), generator=random)]
        targets: dict[int, torch.Tensor] = {}

        def observe(chunk: AttentionChunk, targets: dict[int, torch.Tensor] = targets) -> torch.Tensor:
            rows = AttentionRows(chunk)
            targets[chunk.layer] = rows.mean
            return chunk.weigh(rows.p)

        with _inputs_of(fitted) as inputs:
            for _ in captured.run(batch, observe, batch.shape[1], select=False):
                pass
        losses = [_divergence(indexer, inputs[indexer], targets[int(indexer.layer_idx)]) for indexer in fitted]  # type: ignore[arg-type]
        loss = torch.stack(losses).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = recipe.indexer_learning_rate * 0.5 * (1 + math.cos(math.pi * step / recipe.indexer_steps))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if progress is not None:
            progress(step + 1, recipe.indexer_steps, float(loss.detach()) / len(fitted))
    model.requires_grad_(False)
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(parameter.to(torch.bfloat16))


@contextmanager
def _inputs_of(modules: list[nn.Module]) -> Iterator[dict[nn.Module, dict[str, Any]]]:
    """Collect the arguments of each module's next call, without its cache."""
    seen: dict[nn.Module, dict[str, Any]] = {}

    def remember(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(type(module).forward).bind(module, *args, **kwargs)
        seen[module] = {**bound.arguments, "past_key_values": None}

    handles = [module.register_forward_pre_hook(remember, with_kwargs=True) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _divergence(indexer: nn.Module, arguments: dict[str, Any], target: torch.Tensor) -> torch.Tensor:
    """KL(target || softmax I), averaged over queries, with a gradient to the indexer."""
    # The forward is wrapped in no_grad, for inference; the function inside it is the model's own scoring.
    forward = inspect.unwrap(type(indexer).forward)
    # Tensors made in inference mode take part in autograd only as copies.
    own = {name: _copied(value) for name, value in arguments.items() if name != "self"}
    with torch.enable_grad(), WatchTopk() as watch:
        forward(indexer, **own)
    if watch.scores is None:
        raise ValueError(f"{type(indexer).__name__} does not select with topk")
    log_q = torch.log_softmax(watch.scores, dim=-1)
    mean = target.clone()
    eligible = own["attention_mask"]
    cross = (mean * log_q.masked_fill(~eligible, 0.0)).sum(-1)
    divergence: torch.Tensor = (torch.special.xlogy(mean, mean).sum(-1) - cross).mean()
    return divergence


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    return tuple(map(_copied, value)) if isinstance(value, tuple) else value
