"""Modules whose experts tokens are routed to: which they are, which experts a call needs, and how many a pass meets."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

#: Implementations of transformers (integrations/moe.py) that compute with no expert but those that tokens go to.
SPARSE = ("eager", "batched_mm", "grouped_mm")


def fused(module: nn.Module) -> tuple[str, ...]:
    """Names of the parameters in which a module holds its experts, one for each index of the first dimension.

    Only of modules that run under whichever implementation of experts transformers is set to: these are handed hidden
    states, indices of experts and their weights, and so what they compute can depend on no other expert. Empty for
    all others.
    """
    if "_is_expert_parallel" not in vars(module):
        return ()
    found = {name: own for name, own in module._parameters.items() if own is not None and own.ndim == 3}
    count = getattr(module, "num_experts", None)
    return tuple(found) if all(own.shape[0] == count for own in found.values()) else ()


def asked_for(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> set[int]:
    """Experts that a call of such a module computes with: those it is given indices of, or all.

    Args:
        module: As `fused` knows it.
        args: What it is called with.
        kwargs: And by name.
    """
    count: int = module.num_experts  # type: ignore[assignment]  # of modules that `fused` knows
    if getattr(module.config, "_experts_implementation", None) not in SPARSE:
        return set(range(count))
    # By place: names of the second argument differ, and no implementation knows it by one.
    index = inspect.signature(type(module).forward).bind(module, *args, **kwargs).args[2]
    return {expert for expert in index.unique().tolist() if 0 <= expert < count}  # beyond: tokens of no expert


def routed_share(config: object) -> float:
    """The share of a layer's experts that a token is routed to; 1 where nothing tells."""
    counts = [getattr(config, name, None) for name in ("n_routed_experts", "num_local_experts", "num_experts")]
    experts = next((count for count in counts if isinstance(count, int) and count > 0), None)
    chosen = getattr(config, "num_experts_per_tok", None)
    return chosen / experts if isinstance(chosen, int) and experts else 1.0


def met(config: object, tokens: int) -> float:
    """The share of a layer's experts that so many tokens are expected to be routed to, if evenly.

    >>> from types import SimpleNamespace
    >>> met(SimpleNamespace(num_experts=8, num_experts_per_tok=2), 2)
    0.4375
    """
    return float(1.0 - (1.0 - routed_share(config)) ** tokens)
