"""The search: what the model of the loss proposes and steps from the front are run, few samples first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.optimise.evaluations import Arm, Spent, Tried
from indexscope.analysis.optimise.space import Point, Space
from indexscope.analysis.optimise.surrogate import Belief, Proposer, believe, matrix, prior
from indexscope.analysis.statistics.resampling import Array

#: Share of the budget for changes on their own, which the model of the loss starts from.
FIRST = 0.4
#: Proposals a round: by the model of the loss at these parts of the bound, and steps from the best so far.
TARGETS = (1.0, 0.75, 0.5)
STEPS = 3
#: Neighbours of a point that are weighed, at most: those of deep models are thousands.
_WEIGHED = 4000
#: Rounds without anything new, after which nothing is left to try.
_PATIENCE = 12
#: Steps of the bisection for how far the sum of losses can be trusted.
_BISECTIONS = 4
PROPOSED, STEPPED, CHANGED, STARTED = "proposed", "step from the front", "one change", "recommended"


@dataclass(frozen=True)
class Search:
    """One search.

    Attributes:
        space: What may be tried.
        proposer: Proposes by a model of the loss.
        arm: Runs edits.
        seed: What is drawn.
        costs: Costs by formula that were computed before.
    """

    space: Space
    proposer: Proposer
    arm: Arm
    seed: int = 0
    costs: dict[Point, float] = field(default_factory=dict)

    def run(self, starts: Iterable[Edit] = ()) -> list[Tried]:
        """Search until the budget is spent, or until nothing new is proposed any more.

        It depends on the losses and the seed alone, so that a search over evaluations that are known takes the same
        way again.

        Args:
            starts: Edits to begin with, the most promising first.

        Returns:
            The front.
        """
        try:
            for edit in starts:
                if self.space.point(edit) is not None and self.arm.spent < FIRST * self.arm.budget:
                    self.arm.race(edit, STARTED)
            for point in self._first():
                self.arm.run(self.space.edit(point), self.arm.rungs[0], CHANGED)
            self._rounds(np.random.default_rng(self.seed))
        except Spent:
            pass
        return self.arm.front

    def _formula(self, point: Point) -> float:
        """Cost by formula, of points that nobody has run: a cost that is measured would take a run."""
        if point not in self.costs:
            self.costs[point] = self.proposer.cost.relative(self.space.edit(point))
        return self.costs[point]

    def _first(self) -> Sequence[Point]:
        """Changes on their own, those that save most, as many as a part of the budget holds."""
        found = sorted(self.space.singles(), key=self._formula)
        return found[: max(4, int(FIRST * self.arm.budget * len(self.arm.samples) / self.arm.rungs[0]))]

    def _rounds(self, random: np.random.Generator) -> None:
        idle, trust = 0, self._trusted()
        while idle < _PATIENCE:
            belief = self._belief()
            wanted = [*self._proposed(belief, random, trust), *self._steps(belief)]
            idle = 0 if wanted else idle + 1
            for point, origin in wanted:
                found = self.arm.race(self.space.edit(point), origin)
                if origin == PROPOSED:
                    # Where changes together lose more than the sum, less of the sum is proposed, and the other way.
                    trust *= 0.85 if found.loss.mean > self.arm.goal.max_loss else 1.1
            trust = min(max(trust, 0.1), 1.5)

    def _trusted(self) -> float:
        """What part of the bound the sum of losses may take, for what is proposed to lose as much as is allowed."""
        low, high, trust = 0.0, 2.0, 1.0
        for _ in range(_BISECTIONS):
            point = self.proposer.cheapest(self._belief().mean, trust * self.arm.goal.max_loss - self._margin())
            edit = self.space.edit(point)
            if self.arm.race(edit, PROPOSED).loss.mean > self.arm.goal.max_loss:
                high = trust
            else:
                low = trust
            trust = (low + high) / 2
        return trust

    def _belief(self) -> Belief:
        known = [(point, one) for one in self.arm.tried.values() if (point := self.space.point(one.edit)) is not None]
        rows = matrix(self.proposer.features, [point for point, _ in known])
        loss = np.array([one.loss.mean for _, one in known])
        error = np.array([one.loss.error for _, one in known])
        before = prior(self.proposer.features, rows, loss, self._scale)
        return believe(rows, loss, np.where(np.isfinite(error), error, np.abs(loss)), self._scale, before)

    @property
    def _scale(self) -> float:
        """The bound, or a loss that is small among those measured where the bound is 0."""
        if self.arm.goal.max_loss > 0:
            return self.arm.goal.max_loss
        losses = [abs(one.loss.mean) for one in self.arm.tried.values() if one.loss.mean]
        return float(np.quantile(losses, 0.2)) if losses else 1e-6

    def _margin(self) -> float:
        """What the mean loss has to lie below the bound, for its interval to."""
        errors = [one.loss.bound(self.arm.goal.confidence) - one.loss.mean for one in self.arm.front[:8]]
        return float(np.median(errors)) if errors else 0.0

    def _proposed(self, belief: Belief, random: np.random.Generator, trust: float) -> list[tuple[Point, str]]:
        found: dict[Edit, Point] = {}
        bound = self.arm.goal.max_loss
        for target in TARGETS:
            for scale in (0.0, 0.5, 1.0, 1.0):
                coefficients = belief.drawn(random, scale)
                point = self.proposer.cheapest(coefficients, trust * target * bound - self._margin())
                edit = self.space.edit(point)
                if edit not in self.arm.tried and edit not in found and not edit.changes_nothing:
                    found[edit] = point
                    break
        return [(point, PROPOSED) for point in found.values()]

    def _steps(self, belief: Belief) -> list[tuple[Point, str]]:
        """Neighbours of the cheapest within the bound, and those of these, that promise most."""
        bound, best = self.arm.goal.max_loss, self.arm.best
        centre = self.space.origin if best is None else self.space.point(best.edit)
        assert centre is not None
        around = self.proposer.features.of(centre)
        anchor = 0.0 if best is None else best.loss.mean
        cost = self._formula(centre)
        close = list(islice(self.space.neighbours(centre), _WEIGHED))
        rows = matrix(self.proposer.features, close)
        gain = self._gains(rows - around, belief, anchor, cost, close, bound)
        # Two steps at once: one that saves and one that gives back, from the better half of the single ones.
        rate = np.argsort(-gain, kind="stable")[:6]
        further = [two for place in rate for two in islice(self.space.neighbours(close[place]), _WEIGHED // 6)]
        close += further
        if further:
            more = matrix(self.proposer.features, further)
            gain = np.concatenate([gain, self._gains(more - around, belief, anchor, cost, further, bound)])
        found: dict[Edit, Point] = {}
        for place in np.argsort(-gain, kind="stable"):
            if gain[place] <= 0 or len(found) == STEPS:
                break
            edit = self.space.edit(close[int(place)])
            if edit not in self.arm.tried and edit not in found and not edit.changes_nothing:
                found[edit] = close[int(place)]
        return [(point, STEPPED) for point in found.values()]

    def _gains(
        self, change: Array, belief: Belief, anchor: float, cost: float, points: Sequence[Point], bound: float
    ) -> Array:
        """What each point is expected to save: its saving times the probability that its loss is within the bound."""
        from scipy.special import ndtr

        saved = np.array([cost - self._formula(point) for point in points])
        loss = anchor + change @ belief.mean
        spread = np.sqrt(belief.spread(change) ** 2 + (0.1 * self._scale) ** 2)
        likely = ndtr((bound - self._margin() - loss) / spread)
        return np.asarray(np.maximum(saved, 0.0) * likely)
