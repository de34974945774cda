"""A fitted indexer as it is stored and laid over a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

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
        found = {}
        for layer, shape in self.shapes.items():
            start = prefix(layer)
            own = {name.removeprefix(start): one for name, one in self.weights.items() if name.startswith(start)}
            with torch.device("meta"):
                scorer = LightningScorer(shape)
            scorer.load_state_dict({name: one.float().clone() for name, one in own.items()}, assign=True)
            found[layer] = scorer
        return found


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
