"""Whether later tokens move what a layer by itself makes of earlier ones: its inputs up to t are held as they were.

Where tokens are routed to experts, a later token changes how many rows an expert's products have, and so how they are
rounded. A choice that hung by less than that (the k-th key, an expert) then falls otherwise, and layers after it carry
on from there: in bfloat16 the logits of a causal model move as far as those of one that sees the future. Within one
layer there is no such amplification, since shapes up to its choices are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


class HeldLayers:
    """What goes into each layer of forward after forward, compared with the first and put back to it.

    Args:
        until: Of each forward in its order the last position that is held; None for one that later ones are held to.
        lengths: Tokens of each.

    Attributes:
        largest: Largest change of a row up to t, relative to the row's norm.
    """

    def __init__(self, until: Sequence[int | None], lengths: Sequence[int]) -> None:
        self._until, self._lengths, self.largest = until, lengths, 0.0
        self._layers: list[nn.Module] = []
        self._calls: dict[nn.Module, int] = {}
        self._kept: dict[nn.Module | None, torch.Tensor] = {}

    def enter(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a layer is to be called with instead."""
        number = self._calls.get(layer, 0)
        self._calls[layer] = number + 1
        if number >= len(self._until):  # a model that is read layer by layer calls those before the one that runs again
            return None
        given: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        for place, value in given:
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                held = self.hold(layer, number, value)
                if isinstance(place, int):
                    return (*args[:place], held, *args[place + 1 :]), kwargs
                return args, {**kwargs, place: held}
        return None

    @property
    def mark(self) -> str:
        """What tells it from the same forwards that nobody holds."""
        return f"held {self._until} {self._lengths}"

    def state(self) -> object:
        """What it has come to between two layers of a model that is read layer by layer."""
        return [self._calls.get(layer, 0) for layer in self._layers], self.largest

    def restore(self, state: Any) -> None:
        """Go on from there."""
        calls, self.largest = state
        self._calls = dict(zip(self._layers, calls, strict=True))

    @contextmanager
    def of(self, model: PreTrainedModel) -> Iterator[None]:
        """Hold the inputs of all decoder layers within the block."""
        self._layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
        hooks = [layer.register_forward_pre_hook(self.enter, with_kwargs=True) for layer in self._layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def hold(self, layer: nn.Module | None, number: int, states: torch.Tensor) -> torch.Tensor:
        """What goes into a layer, or the logits for None, with the rows up to t as they were in the first forward.

        Args:
            layer: Which.
            number: Of the forward.
            states: Positions are the second dimension or, where layers have several versions of them, the last but one.
        """
        last = self._until[number]
        if last is None:
            self._kept[layer] = states.clone()
            return states
        before = self._kept[layer]
        axis = 1 if states.shape[1] == self._lengths[number] else states.dim() - 2
        rows, wanted = states.narrow(axis, 0, last + 1), before.narrow(axis, 0, last + 1)
        moved = torch.linalg.vector_norm(rows.float() - wanted.float(), dim=-1)
        norm = torch.linalg.vector_norm(wanted.float(), dim=-1)
        share = torch.where(moved > 0, moved / norm.clamp(min=torch.finfo(torch.float32).tiny), 0.0)
        self.largest = max(self.largest, float(share.max()))
        if number == len(self._until) - 1:  # nobody is held to it any more
            del self._kept[layer]
        rest = states.shape[axis] - last - 1
        return torch.cat([wanted, states.narrow(axis, last + 1, rest)], axis)


@contextmanager
def holding(model: PreTrainedModel, until: Sequence[int | None], lengths: Sequence[int]) -> Iterator[HeldLayers]:
    """Hold the inputs of all decoder layers within the block, for as many forwards, one sequence each."""
    held = HeldLayers(until, lengths)
    with held.of(model):
        yield held
