"""Evaluations of edits: their losses by sample, kept, counted and estimated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.statistics.resampling import Array, expansion, ratio


@dataclass(frozen=True)
class Loss:
    """What an edit loses on one sample against the model as it is.

    Attributes:
        sums: Loss summed over the queries of each position bucket.
        weights: Queries behind each sum.
    """

    sums: tuple[float, ...]
    weights: tuple[float, ...]


class Evaluator(Protocol):
    """Runs edits."""

    def evaluate(self, edit: Edit, samples: Sequence[int]) -> Iterator[Loss]:
        """What an edit loses on each sample, paired: against the model as it is on the same sample."""
        ...


Known = Mapping[tuple[Edit, int], Loss]
Heard = Callable[[Edit, int, Loss], None]


class Evaluations:
    """Every evaluation is made once; what was known before is not made again.

    Args:
        evaluator: Runs edits.
        known: Evaluations of an earlier run.
        heard: Called with every new evaluation before it is used.
    """

    def __init__(self, evaluator: Evaluator, known: Known | None = None, heard: Heard | None = None) -> None:
        self._evaluator, self._known, self._heard = evaluator, dict(known or {}), heard

    def of(self, edit: Edit, samples: Sequence[int]) -> list[Loss]:
        """What an edit loses on each of some samples."""
        missing = [sample for sample in samples if (edit, sample) not in self._known]
        if missing:
            for sample, found in zip(missing, self._evaluator.evaluate(edit, missing), strict=True):
                if self._heard is not None:
                    self._heard(edit, sample, found)
                self._known[edit, sample] = found
        return [self._known[edit, sample] for sample in samples]


@dataclass(frozen=True)
class Estimate:
    """A mean loss over samples.

    Attributes:
        mean: Σ sums / Σ weights.
        error: Its standard error over samples; infinite for a single one.
        samples: Samples behind it.
    """

    mean: float
    error: float
    samples: int

    def bound(self, confidence: float, side: int = 1) -> float:
        """Upper (side 1) or lower (-1) end of the t interval."""
        if self.samples < 2:
            return side * math.inf
        return self.mean + side * _t(self.samples - 1, confidence) * self.error


@lru_cache(maxsize=256)
def _t(freedom: int, confidence: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + confidence / 2))


def estimate(losses: Iterable[Loss]) -> Estimate:
    """The mean loss and its error, by samples as a ratio of sums."""
    found = list(losses)
    top, bottom = sums_of(found)
    top, bottom = top.sum(axis=1), bottom.sum(axis=1)
    mean = float(ratio(top.sum(), bottom.sum()))
    if len(found) < 2:
        return Estimate(mean, math.inf, len(found))
    residual = top - mean * bottom
    # The deviations of a ratio add up to nothing, as those of a mean do.
    error = float(expansion(len(found)) * np.sqrt((residual**2).sum()) / bottom.sum())
    return Estimate(mean, error, len(found))


def sums_of(losses: Sequence[Loss]) -> tuple[Array, Array]:
    """Sums and weights, [samples, buckets]; 0 in buckets that a sample does not reach."""
    width = max((len(one.sums) for one in losses), default=0)
    sums, weights = np.zeros((2, len(losses), width))
    for row, one in enumerate(losses):
        sums[row, : len(one.sums)] = one.sums
        weights[row, : len(one.weights)] = one.weights
    return sums, weights


class Spent(Exception):
    """The budget is used up."""


@dataclass(frozen=True)
class Tried:
    """An edit that was evaluated, as far as it was.

    Attributes:
        edit: The edit.
        cost: Its cost relative to the model as it is.
        loss: Its loss on calibration samples.
        full: Whether it ran on all of them.
        origin: Who proposed it.
    """

    edit: Edit
    cost: float
    loss: Estimate
    full: bool
    origin: str


@dataclass(frozen=True)
class Goal:
    """What is looked for: the least cost at which the loss is within a bound.

    Attributes:
        max_loss: The bound.
        cost: Cost of an edit relative to the model as it is.
        confidence: Of the interval whose upper end is held against the bound.
    """

    max_loss: float
    cost: Callable[[Edit], float]
    confidence: float = 0.95


class Arm:
    """One search: what it has tried, and how much of its budget is left. Arms share evaluations, and each pays in full.

    Args:
        evaluations: Shared.
        samples: Calibration samples, in the order in which they are run.
        goal: What is looked for.
        budget: How many times all calibration samples may be run.
        told: Called after every edit that was taken further.
        over: Asked before an edit is run whether to stop, for budgets in time.
    """

    def __init__(
        self,
        evaluations: Evaluations,
        samples: Sequence[int],
        goal: Goal,
        budget: float,
        told: Callable[[Arm, Tried], None] = lambda arm, tried: None,
        over: Callable[[], bool] = lambda: False,
    ) -> None:
        self.goal, self.samples, self.budget = goal, tuple(samples), budget
        self.tried: dict[Edit, Tried] = {}
        self._evaluations, self._told, self._over = evaluations, told, over
        self._runs = 0
        n = len(self.samples)
        self.rungs = tuple(sorted({min(n, max(4, n // part)) for part in (4, 2, 1)}))

    @property
    def spent(self) -> float:
        """How many times all calibration samples were run so far."""
        return self._runs / len(self.samples)

    def run(self, edit: Edit, samples: int, origin: str) -> Tried:
        """The loss on the first so many calibration samples; on more where more were run before.

        Raises:
            Spent: The budget does not hold it.
        """
        old = self.tried.get(edit)
        if old is not None and old.loss.samples >= samples:
            return old
        runs = samples - (0 if old is None else old.loss.samples)
        if self._runs + runs > self.budget * len(self.samples) or self._over():
            raise Spent
        found = estimate(self._evaluations.of(edit, self.samples[:samples]))
        self._runs += runs
        origin = origin if old is None else old.origin
        self.tried[edit] = Tried(edit, self.goal.cost(edit), found, samples == len(self.samples), origin)
        self._told(self, self.tried[edit])
        return self.tried[edit]

    def race(self, edit: Edit, origin: str) -> Tried:
        """Run an edit on more and more samples as long as it may yet be within the bound and the cheapest."""
        found = self.run(edit, self.rungs[0], origin)
        for rung in self.rungs[1:]:
            if found.loss.mean - 1.5 * found.loss.error > self.goal.max_loss:
                break
            best = self.best
            if best is not None and found.cost >= best.cost and found.loss.mean >= best.loss.mean:
                break
            found = self.run(edit, rung, origin)
        return found

    def within(self, tried: Tried) -> bool:
        """Whether it ran on all calibration samples and the interval of its loss lies within the bound."""
        return tried.full and tried.loss.bound(self.goal.confidence) <= self.goal.max_loss

    @property
    def best(self) -> Tried | None:
        """The cheapest within the bound."""
        return min(filter(self.within, self.tried.values()), key=lambda one: (one.cost, one.loss.mean), default=None)

    @property
    def front(self) -> list[Tried]:
        """Of all that ran on every calibration sample, what nothing beats in cost and loss, the cheapest first."""
        kept: list[Tried] = []
        for one in sorted((t for t in self.tried.values() if t.full), key=lambda t: (t.cost, t.loss.mean)):
            if not kept or one.loss.mean < kept[-1].loss.mean:
                kept.append(one)
        return kept
