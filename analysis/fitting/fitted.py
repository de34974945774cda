"""A fitted indexer as it is stored and laid over a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch

from indexscope.analysis.capture.streaming.made import given
from indexscope.analysis.fitting.scorer import LightningScorer, ScorerShape


@dataclass(frozen=True)
class FittedIndexer:
    """A lightning indexer for every layer of one model.

    Attributes:
        heads: Indexer heads of a layer.
        dim: Width of one.
        topk: Numbers of keys that it was tuned for.
        shapes: By layer.
        weights: Parameters by name, ``layers.<layer>.<parameter>``.
    """

    heads: int
    dim: int
    topk: tuple[int, ...]
    shapes: Mapping[int, ScorerShape]
    weights: Mapping[str, torch.Tensor]

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"h{self.heads}-d{self.dim}"

    def scorers(self) -> dict[int, LightningScorer]:
        """Modules with these weights, by layer, in float32."""
        found = self._without_weights()
        for layer, scorer in found.items():
            scorer.load_state_dict({name: one.clone() for name, one in self._of(layer).items()}, assign=True)
        return found

    def scorers_by_layer(self) -> dict[int, LightningScorer]:
        """The same on the meta device; whoever loads a layer of the model that they are laid over loads its scorer."""
        found = self._without_weights()
        for layer, scorer in found.items():
            given(scorer, partial(self._of, layer))
        return found

    def _of(self, layer: int) -> dict[str, torch.Tensor]:
        start = prefix(layer)
        return {name.removeprefix(start): self.weights[name].float() for name in self.weights if name.startswith(start)}

    def _without_weights(self) -> dict[int, LightningScorer]:
        with torch.device("meta"):
            return {layer: LightningScorer(shape) for layer, shape in self.shapes.items()}


def prefix(layer: int) -> str:
    """What the names of a layer's parameters begin with."""
    return f"layers.{layer}."


def weights_of(scorers: Mapping[int, LightningScorer]) -> dict[str, torch.Tensor]:
    """Copies of the parameters of scorers, by name."""
    return {
        prefix(layer) + name: one.detach().cpu().clone().contiguous()
        for layer, scorer in sorted(scorers.items())
        for name, one in scorer.state_dict().items()
    }
