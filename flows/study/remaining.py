"""A study that goes on without the models that fail: what is left is made as if the study had never had them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from indexscope.flows.engine.units import ModelsFailed, UnitsFailed
from indexscope.flows.study.plan import Plan, without
from indexscope.flows.study.references import on_record

T = TypeVar("T")


class Remaining:
    """What is left of a study.

    Args:
        plan: The whole study.
        records: Holds the records of what the run uses; a narrower plan has one of its own, with results of its own.

    Attributes:
        plan: The plan of the models that are left.
        failed: What failed of each of the others.
        made: To be called once the report is made.
    """

    def __init__(self, plan: Plan, records: ExitStack) -> None:
        self.plan, self._records = plan, records
        self.failed: dict[str, UnitsFailed] = {}
        self.made = records.enter_context(on_record(plan))

    def attempt(self, work: Callable[[Plan], T]) -> T | None:
        """Do some work with what is left; None if models fell out of it, so that it is to be done with the others.

        Raises:
            ModelsFailed: The baseline is among them, so that nothing can be compared.
        """
        try:
            return work(self.plan)
        except ModelsFailed as fallen:
            self.failed |= fallen.failures
            if self.plan.study.baseline.name in fallen.failures:
                raise ModelsFailed(self.failed) from fallen
            self.plan = without(self.plan, {name: failure.reason for name, failure in fallen.failures.items()})
            self.made = self._records.enter_context(on_record(self.plan))
            return None


@contextmanager
def remaining(plan: Plan) -> Iterator[Remaining]:
    """A study to go on with while the block runs."""
    with ExitStack() as records:
        yield Remaining(plan, records)
