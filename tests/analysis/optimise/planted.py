"""Models of which the loss of every edit is known."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.flops import AttentionLayer
from indexscope.analysis.optimise.cost import Cost, CostLayer
from indexscope.analysis.optimise.evaluations import Arm, Evaluations, Goal, Loss
from indexscope.analysis.optimise.search import Search
from indexscope.analysis.optimise.space import Layer, Point, Space
from indexscope.analysis.optimise.surrogate import Proposer

TOPK, HEADS = 64, 4


def space_of(layers: int = 6, heads: int = HEADS, topk: int = TOPK) -> Space:
    return Space(layers, tuple(Layer(layer, heads, topk) for layer in range(layers)))


def cost_of(space: Space, lengths: Sequence[int] = (512,), whole: bool = True) -> Cost:
    """As the built-in model: 64 channels a head, latents of 64 and a rotary key of 16."""
    attention = AttentionLayer(960.0, sparse=True, latent=1728.0)
    layers = tuple(
        CostLayer(attention, layer.heads, 64, layer.topk, token=2.0 * 192 * 64, token_head=2.0 * (96 * 64 + 192))
        for layer in space.layers
    )
    return Cost(layers, tuple(lengths), 0.5, whole)


class Planted:
    """Loses what a function of the point says, with noise of samples that is half the same for all edits.

    Args:
        space: Where points are.
        loss: True loss of a point.
        noise: Standard deviation over samples of a loss of 1.
    """

    def __init__(self, space: Space, loss: Callable[[Point], float], noise: float = 0.5) -> None:
        self.space, self.loss, self.noise = space, loss, noise
        self.runs = 0

    def evaluate(self, edit: Edit, samples: Sequence[int]) -> Iterator[Loss]:
        point = self.space.point(edit)
        assert point is not None
        true = self.loss(point)
        for sample in samples:
            self.runs += 1
            seed = zlib.crc32(f"{edit.model_dump_json()} {sample}".encode())
            own, shared = np.random.default_rng(seed).normal(), np.random.default_rng(sample).normal()
            yield Loss((100.0 * (true + self.noise * (abs(true) + 1e-4) * (own + shared) / 2**0.5),), (100.0,))


def arm_of(
    planted: Planted, cost: Cost, max_loss: float = 0.005, budget: float = 40, samples: int = 32, **more: object
) -> Arm:
    return Arm(Evaluations(planted), range(samples), Goal(max_loss, cost.relative), budget, **more)  # type: ignore[arg-type]


def searched(planted: Planted, cost: Cost, seed: int = 0, **more: float) -> Arm:
    arm = arm_of(planted, cost, **more)  # type: ignore[arg-type]
    Search(planted.space, Proposer(planted.space, cost), arm, seed).run()
    return arm


def typical(space: Space, seed: int = 0, interaction: float = 1.0) -> Callable[[Point], float]:
    """Like that of trained models: layers and heads differ, and changes of neighbours lose more than their sum."""
    random = np.random.default_rng(seed)
    layers = len(space.layers)
    share = random.lognormal(-6.5, 1.2, layers)
    budget = random.lognormal(-7.5, 1.0, layers)
    heads = [random.lognormal(-8.0, 1.3, layer.heads) for layer in space.layers]

    def loss(point: Point) -> float:
        parts = []
        for place, source in enumerate(point.sources):
            own = point.choices[source]
            assert own is not None
            part = budget[place] * (2 ** max(0.0, np.log2(space.layers[place].topk / own.topk)) - 1) ** 1.3
            if source != place:
                part += share[place] * (place - source) ** 0.5
            else:
                gone = [head for head in range(space.layers[place].heads) if head not in own.heads]
                lost = float(sum(heads[place][head] for head in gone))
                part += lost * (1 + 0.7 * max(0, len(gone) - 1))
            parts.append(part)
        total = float(sum(parts))
        beside = sum(one * two for one, two in pairwise(parts))
        return total + interaction * 150 * float(beside)

    return loss
