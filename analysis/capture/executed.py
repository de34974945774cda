"""FLOPs that a forward really executes, by formula: what torch's counter must agree with to 1 %."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl
import torch
from torch import nn
from transformers import PreTrainedModel

from indexscope.analysis.capture.dispatched import home
from indexscope.analysis.capture.indexer import first_attribute

#: Matrices that are applied to every token; the others of two dimensions are embeddings and tables.
MATRICES = ("weight", "fn", "hc_fn")
#: Experts of which transformers runs all for every token, weighed by zero where the token does not go to them.
ALL_RUN = ("Llama4TextExperts",)


def token_flops(model: PreTrainedModel, parts: Mapping[str, Sequence[nn.Module]]) -> dict[str, float]:
    """FLOPs of one token in the projections of indexer, attention (without its indexer) and the rest of the model.

    2 x weights of every matrix that a token passes: of routed experts only those that a token goes to, except in
    llama4, whose code runs them all. Modules that do not run on text, such as a vision tower, cost nothing.
    """
    run = set(_running(model))
    indexer = set(_within(parts["indexer"]))
    attention = set(_within(parts["attention"])) - indexer
    own = {"indexer": indexer, "attention": attention, "rest": run - indexer - attention}
    return {name: _projections(modules & run, model) for name, modules in own.items()}


def executed_flops(projections: Mapping[str, float], layers: pl.DataFrame, length: int) -> dict[str, float]:
    """FLOPs of one prefill of L tokens as torch executes it; a multiply-add is 2.

    Every matrix product is counted and nothing else: the projections of each token, all L^2 query-key pairs of each
    attention layer, 2 H (d_qk + d_v), and of each indexer, 2 H_I d_I + 2 H_I. Masked pairs are among them:
    transformers multiplies with future keys, keys outside a window and unselected keys before a mask takes them away.
    Left out, as torch's counter cannot see it either: softmax, topk, norms, activations, rotations, masks.

    Args:
        projections: FLOPs a token, from `token_flops`.
        layers: As `indexscope.analysis.capture.layers.layer_facts` gives them.
        length: Tokens L.

    Returns:
        FLOPs of indexer, attention (without its indexer) and model.
    """
    pairs = float(length) ** 2
    widths = layers["attention_heads"] * (layers["key_width"] + layers["value_width"])
    scored = layers["indexer_heads"] * (layers["indexer_dim"] + 1)
    indexer = projections["indexer"] * length + pairs * 2.0 * float(scored.sum() or 0)
    attention = projections["attention"] * length + pairs * 2.0 * float(widths.sum())
    return {"indexer": indexer, "attention": attention, "model": indexer + attention + projections["rest"] * length}


def _within(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for module in modules:
        yield from module.modules()


def _running(model: nn.Module) -> list[nn.Module]:
    """The modules that a forward of text calls: a vision tower has weights, but no work."""
    called: list[nn.Module] = []

    def note(module: nn.Module, *_: object) -> None:
        called.append(module)

    handles = [module.register_forward_pre_hook(note) for module in model.modules()]
    try:
        model(input_ids=torch.zeros((1, 2), dtype=torch.int64, device=home(model)), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return called


def _projections(modules: Iterable[nn.Module], model: PreTrainedModel) -> float:
    """FLOPs of one token in the matrices that modules hold themselves."""
    config: Any = model.config.get_text_config(decoder=True)
    chosen = first_attribute(config, ("num_experts_per_tok", "num_experts_per_token", "moe_topk"))
    total = 0.0
    for module in modules:
        if isinstance(module, nn.Embedding):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == 2 and name in MATRICES:
                total += 2.0 * parameter.numel()
            elif parameter.ndim == 3 and chosen is not None:
                each = 2.0 * parameter.numel() / parameter.shape[0]
                total += each * (parameter.shape[0] if type(module).__name__ in ALL_RUN else chosen)
    return total
