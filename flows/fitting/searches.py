"""Searches for cheaper edits of what was fitted: they see training text, and the held-out text tests what they find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from indexscope.flows.fitting.plan import FitPlan
from indexscope.flows.fitting.sweep import CALIBRATION, candidate, dataset
from indexscope.flows.optimise.settings import Asked, budget_of
from indexscope.flows.optimise.written import DATA, Finds, finds_in
from indexscope.flows.study.config import Study
from indexscope.tasks.common.fitting import middle

if TYPE_CHECKING:
    from indexscope.flows.study.plan import Plan

#: Folder of the searches, beside the fitted indexers.
FOLDER = "optimised"


@dataclass(frozen=True)
class Search:
    """A search of one indexer of a sweep, with the middle number of keys.

    Attributes:
        indexer: Its name, as in h4-d64.
        asked: What is looked for.
        out: Where its results go.
        study: A study of that indexer alone, on the held-out text.
    """

    indexer: str
    asked: Asked
    out: Path
    study: Study

    def plan(self) -> Plan:
        """The plan of its study."""
        from indexscope.flows.study.plan import make_plan

        return make_plan(self.study)

    def finds(self) -> Finds | None:
        """What it found; None where it has not ended."""
        from indexscope.flows.optimise.flow import known

        if known(self.plan(), self.asked, self.out) is None:
            return None
        return finds_in(self.out)

    def run(self) -> Finds:
        """Search, from where an interrupted search stopped, and tell what was found.

        Raises:
            IndexscopeError: The model cannot be edited.
        """
        from indexscope.flows.engine.narrate import say
        from indexscope.flows.optimise.flow import material, searched

        say(f"searching cheaper edits of {self.asked.model}")
        plan = self.plan()
        told = searched(plan, self.asked, material(plan, self.asked), self.out)
        for line in told.splitlines():
            say(line)
        return finds_in(self.out)


def searches(plan: FitPlan) -> Iterator[Search]:
    """Those that a fit asks for, in the order of its sweep."""
    wanted = plan.fit.optimise
    if wanted is None:
        return
    evaluations, seconds = budget_of(wanted.budget, "optimise.budget")
    training = plan.fit.training
    for name in plan.fit.searched:
        model = candidate(plan, name, middle(plan.fit.topk))
        study = {
            "name": f"indexers for {plan.folder.name}",
            "baseline": {**model, "indexer": str(plan.out / name)},
            "dataset": {**dataset(plan), "source": str(plan.out / DATA)},
            "extract": {"device": training.device},
            "store": str(plan.out / ".indexscope"),
        }
        asked = Asked(
            **wanted.model_dump(include={"max_loss", "loss", "cost", "baselines", "seed"}),
            evaluations=evaluations,
            seconds=seconds,
            text=str(plan.out / CALIBRATION),
            model=model["name"],
        )
        yield Search(name, asked, plan.out / FOLDER / name, Study.model_validate(study))
