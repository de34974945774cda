"""What a run uses of its store, on record there from its first moment, so that a gc elsewhere spares it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from indexscope.flows.engine.narrate import say
from indexscope.flows.study.config import identity_of as identity_of
from indexscope.flows.study.plan import Plan
from indexscope.storage.studies.records import StudyRecord, in_use, new_record


@contextmanager
def on_record(plan: Plan) -> Iterator[Callable[[], None]]:
    """Keep everything that a plan names from being collected while the block runs.

    Yields:
        A function to call once the report is made, which needs everything that the plan names.
    """
    with in_use(plan.store, record_of(plan), say) as made:
        yield made


def record_of(plan: Plan) -> StudyRecord:
    """The record of a run of a plan."""
    return new_record(
        plan.study.name,
        identity_of(plan.study),
        {node.model.name: node.key.path for node in plan.graph if node.step.name == "extract" and node.model},
        [node.key.path for node in plan.graph],
        tuple(plan.missing),
    )
