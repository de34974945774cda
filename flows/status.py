"""What a study would do: for every step, how much the store has, and why the rest would run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.jobs import Contents, Step
from flows.plan import ModelPlan, Plan
from flows.reasons import why
from flows.steps import steps_of
from storage.samples import Sample


@dataclass(frozen=True)
class StepStatus:
    """One line of the plan.

    Attributes:
        step: What would run, and for which model.
        units: Units of the step.
        cached: How many of them the store has.
        rows: Rows of its largest table if that is known ahead: per sample, layer, head and position bucket.
        why: Why it would run; empty if it would not.
    """

    step: str
    units: int
    cached: int
    rows: int | None
    why: str


def status(plan: Plan) -> list[StepStatus]:
    """The lines of the plan, in the order of the work."""
    steps = steps_of(plan, "study")
    rows = {model.features: _rows(model, plan.samples) for model in plan.models}
    contents = Contents(plan)
    return [_line(plan, step, contents, rows.get(step.key)) for step in steps]


def is_complete(plan: Plan, command: str) -> bool:
    """Whether the store has all that a command makes."""
    contents = Contents(plan)
    return not any(why(plan, step, contents) for step in steps_of(plan, command))


def _line(plan: Plan, step: Step, contents: Contents, rows: int | None) -> StepStatus:
    reason = why(plan, step, contents)
    cached = len(step.units)
    if reason:
        statuses = list(plan.store.unit_statuses(step.key, step.units).values())
        partly = statuses.count("committed")
        # Asked for, or made from something else: then what is there does not count.
        cached = partly if partly < len(step.units) and step.name not in plan.refresh else 0
    return StepStatus(step.title, len(step.units), cached, rows, reason)


def _rows(model: ModelPlan, samples: Sequence[Sample]) -> int | None:
    if model.info.layers is None or model.info.attention_heads is None:
        return None
    # A sample of n tokens has the position buckets 0 to floor(log2(n)).
    return (
        model.info.layers * model.info.attention_heads * sum(len(sample.input_ids).bit_length() for sample in samples)
    )
