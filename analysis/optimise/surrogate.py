"""A model of the loss that adds up over layers: it proposes what is run next, and nothing else is taken from it.

Losses of changes do not add up in truth, so a proposal counts for nothing until it has been run. Bayesian linear
regression on what was run gives coefficients with their uncertainty; for coefficients drawn from it (Thompson 1933),
the edit of least loss + λ x cost is exact by dynamic programming over the layers, as both add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.optimise.cost import Cost
from indexscope.analysis.optimise.space import Choice, Point, Space
from indexscope.analysis.statistics.resampling import Array

#: Steps of the bisection for λ.
_BISECTIONS = 18


@dataclass(frozen=True)
class Features:
    """Numbers of a point in which the loss is taken to be linear.

    Of every layer: whether it shares; the halvings of its k and their square; whether k is larger, and its doublings;
    how many heads more than one it lacks; and each head that it lacks. Of all together: the layers between those that
    share and their source, and each precision.
    """

    space: Space

    @cached_property
    def start(self) -> tuple[int, ...]:
        """Where the features of each layer begin; the last is where those of all layers do."""
        sizes = [6 + layer.heads for layer in self.space.layers]
        return tuple(int(at) for at in np.concatenate([[0], np.cumsum(sizes)]))

    @cached_property
    def kinds(self) -> NDArray[np.int64]:
        """The kind of each, [features]."""
        each = [[SHARES, SMALLER, SMALLER, LARGER, LARGER, HEADS, *[HEAD] * layer.heads] for layer in self.space.layers]
        return np.array([*(kind for layer in each for kind in layer), FAR, *[PRECISION] * len(self.space.precisions)])

    @property
    def count(self) -> int:
        """How many there are."""
        return self.start[-1] + 1 + len(self.space.precisions)

    def of(self, point: Point) -> Array:
        """The features of a point."""
        row = np.zeros(self.count)
        for place, source in enumerate(point.sources):
            at, layer = self.start[place], self.space.layers[place]
            own = point.choices[source]
            assert own is not None
            row[at + 1 : at + 5] = self.budget(place, own.topk)
            if source != place:
                row[at] = 1.0
                row[self.start[-1]] += place - source - 1
            else:
                gone = [head for head in range(layer.heads) if head not in own.heads]
                row[[at + 6 + head for head in gone]] = 1.0
                row[at + 5] = max(0, len(gone) - 1) / max(1, layer.heads - 1)
        if point.precision is not None:
            row[self.start[-1] + 1 + self.space.precisions.index(point.precision)] = 1.0
        return row

    def budget(self, place: int, topk: int) -> tuple[float, float, float, float]:
        """The features of another k."""
        halvings = math.log2(self.space.layers[place].topk / topk)
        return max(0.0, halvings), max(0.0, halvings) ** 2, float(halvings < 0), max(0.0, -halvings)


#: Kinds of features, for what was never tried to be believed like others of its kind.
SHARES, SMALLER, LARGER, HEAD, HEADS, FAR, PRECISION = range(7)


@dataclass(frozen=True)
class Prior:
    """What is believed of coefficients before anything is run.

    Attributes:
        mean: [features].
        spread: Standard deviations, [features].
    """

    mean: Array
    spread: Array


def prior(features: Features, rows: Array, loss: Array, scale: float) -> Prior:
    """Of each kind what single changes of that kind lose in the middle, and as widely spread as they are.

    Args:
        features: The features.
        rows: Those of what was run, [points, features].
        loss: Mean losses, [points].
        scale: The loss that is looked for.
    """
    kinds = features.kinds
    sizes = rows.sum(axis=1)
    # Of a kind that hardly anything is known of: as far as any loss that was seen, the boldest left out.
    wide = max(4.0 * scale, float(np.sqrt(np.median(loss**2))) if len(loss) else 0.0)
    mean, spread = np.full(features.count, 0.1 * scale), np.full(features.count, wide)
    for kind in (SHARES, SMALLER, HEAD):
        own = np.flatnonzero(kinds == kind)
        inside = rows[:, own].sum(axis=1)
        single = (inside > 0) & (inside == sizes) & ((rows[:, own] > 0).sum(axis=1) <= (2 if kind == SMALLER else 1))
        if single.sum() >= 3:
            found = loss[single] / inside[single]
            middle = float(np.median(found))
            mean[own] = max(middle, 0.0)
            # Not the median deviation: of a kind of which most lose nothing, a single one may lose everything.
            spread[own] = max(float(np.sqrt(np.mean((found - middle) ** 2))), 0.2 * scale, middle)
    return Prior(mean, spread)


@dataclass(frozen=True)
class Belief:
    """Coefficients and their uncertainty.

    Attributes:
        mean: [features].
        root: A root of their covariance, [features, features].
    """

    mean: Array
    root: Array

    def drawn(self, random: np.random.Generator, scale: float = 1.0) -> Array:
        """Coefficients that may be the true ones."""
        return np.asarray(self.mean + scale * (self.root @ random.standard_normal(len(self.mean))))

    def spread(self, rows: Array) -> Array:
        """Standard deviation of the loss of points, [points]."""
        return np.asarray(np.sqrt(((rows @ self.root) ** 2).sum(axis=1)))


def believe(rows: Array, loss: Array, error: Array, scale: float, before: Prior) -> Belief:
    """Coefficients from what was run.

    Where losses are far above what is looked for they add up least and matter least: their errors are taken as larger.

    Args:
        rows: Features, [points, features].
        loss: Mean losses, [points].
        error: Their standard errors, [points].
        scale: The loss that is looked for.
        before: What is believed of what was never tried.
    """
    deviation = 0.3 * scale
    certain = 1 / before.spread**2
    for _ in range(2):
        noise = error**2 + deviation**2 + (0.3 * np.maximum(loss - 2 * scale, 0.0)) ** 2
        weighed = rows / noise[:, None]
        covariance = np.linalg.inv(rows.T @ weighed + np.diag(certain))
        mean = covariance @ (weighed.T @ loss + certain * before.mean)
        near = loss < 2 * scale
        if near.sum() > 8:
            left = (loss - rows @ mean)[near]
            missed = math.sqrt(max(0.0, float(np.mean(left**2) - np.mean(error[near] ** 2))))
            deviation = min(max(missed, 0.1 * scale), 2 * scale)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return Belief(np.asarray(mean), np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))))


@dataclass(frozen=True)
class Proposer:
    """Finds the edit of least loss at a cost, and of least cost at a loss, as coefficients have it."""

    space: Space
    cost: Cost

    @cached_property
    def features(self) -> Features:
        """The features of its space."""
        return Features(self.space)

    def cheapest(self, coefficients: Array, loss: float) -> Point:
        """The cheapest point whose loss is at most so much as the coefficients have it; else that of least loss."""
        low, high = math.log(1e-6), math.log(1e3)
        kept = self.least(coefficients, math.exp(low))
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            found = self.least(coefficients, math.exp(middle))
            if float(self.features.of(found) @ coefficients) <= loss:
                low, kept = middle, found
            else:
                high = middle
        return kept

    def least(self, coefficients: Array, weight: float) -> Point:
        """The point of least loss + weight x relative cost.

        A run of layers is one that selects and those after it that take its selection; the best cut into runs is found
        from the first layer to the last.
        """
        features, layers = self.features, self.space.layers
        precision, most = None, math.inf
        found: Point | None = None
        for precision in (None, *self.space.precisions):
            extra = 0.0
            if precision is not None:
                extra = float(coefficients[features.start[-1] + 1 + self.space.precisions.index(precision)])
            total, point = self._cut(coefficients, weight, precision)
            if total + extra < most:
                most, found = total + extra, point
        assert found is not None and len(found.choices) == len(layers)
        return found

    def _cut(self, coefficients: Array, weight: float, precision: object) -> tuple[float, Point]:
        start, layers = self.features.start, self.space.layers
        count = len(layers)
        far = float(coefficients[start[-1]])
        best, came = [0.0] + [math.inf] * count, [(0, Choice((), 0))] * (count + 1)
        for first in range(count):
            heads, own = self._heads(coefficients, weight, first, precision)
            budgets = layers[first].budgets
            running, shared = np.zeros(len(budgets)), 0.0
            for last in range(first, count):
                at = start[last]
                running = running + [
                    float(np.dot(coefficients[at + 1 : at + 5], self.features.budget(last, k)))
                    + weight * self._share(self.cost.attention(layers[last].layer, k))
                    for k in budgets
                ]
                if last > first:
                    shared += float(coefficients[at]) + far * (last - first - 1)
                chosen = int(np.argmin(running))
                total = best[first] + own + shared + float(running[chosen])
                if total < best[last + 1]:
                    best[last + 1], came[last + 1] = total, (first, Choice(heads, budgets[chosen]))
        choices: list[Choice | None] = [None] * count
        at = count
        while at:
            at, choice = came[at]
            choices[at] = choice
        return best[count], Point(tuple(choices), precision)  # type: ignore[arg-type]

    def _heads(
        self, coefficients: Array, weight: float, place: int, precision: object
    ) -> tuple[tuple[int, ...], float]:
        """The heads that stay and what they come to: those that lose least go first."""
        layer, at = self.space.layers[place], self.features.start[place]
        each = coefficients[at + 6 : at + 6 + layer.heads]
        order = np.argsort(each, kind="stable")
        lost, kept, least = 0.0, tuple(range(layer.heads)), math.inf
        for gone in range(layer.heads):
            if gone:
                lost += float(each[order[gone - 1]])
            cost = self.cost.indexer(layer.layer, layer.heads - gone, precision)  # type: ignore[arg-type]
            more = float(coefficients[at + 5]) * max(0, gone - 1) / max(1, layer.heads - 1)
            total = lost + more + weight * self._share(cost)
            if total < least:
                least, kept = total, tuple(sorted(int(head) for head in order[gone:]))
        return kept, least

    def _share(self, flops: float) -> float:
        return flops / self.cost.base


def matrix(features: Features, points: Sequence[Point]) -> Array:
    """Features of points, [points, features]."""
    return np.array([features.of(point) for point in points])
