"""What a study would do: for every step, how much the store has, and why the rest would run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from indexscope.flows.engine.contents import Contents
from indexscope.flows.engine.graph import Node
from indexscope.flows.engine.make import Engine
from indexscope.flows.study.plan import Plan
from indexscope.storage.inputs.checkpoints import CheckpointInfo
from indexscope.storage.inputs.samples import Sample
from indexscope.tasks.common.passes import under_way


@dataclass(frozen=True)
class StepStatus:
    """One line of the plan.

    Attributes:
        step: What would run, and for which model.
        units: Units of the step.
        cached: How many of them the store has.
        rows: Rows of its largest table if that is known ahead: per sample, layer, head and position bucket.
        why: Why it would run; empty if it would not.
        under_way: Units whose pass was killed and goes on, in a line each.
    """

    step: str
    units: int
    cached: int
    rows: int | None
    why: str
    under_way: tuple[str, ...] = ()


def status(plan: Plan) -> list[StepStatus]:
    """The lines of the plan, in the order of the work."""
    engine, contents = plan.engine, Contents(plan.store)
    infos = {model.name: model.info for model in plan.models}
    return [_line(engine, node, contents, infos, plan) for node in plan.graph]


def is_complete(plan: Plan, command: str) -> bool:
    """Whether the store has all that a command makes."""
    engine, contents = plan.engine, Contents(plan.store)
    return not any(engine.why(node, contents) for node in plan.made_by(command))


def needs_processes(plan: Plan, command: str) -> bool:
    """Whether a command has work for worker processes."""
    nodes = [node for node in plan.made_by(command) if node.step.command != "report"]  # which is made by itself
    return plan.engine.suited(nodes).kind == "processes"


def _line(
    engine: Engine, node: Node, contents: Contents, infos: Mapping[str, CheckpointInfo], plan: Plan
) -> StepStatus:
    reason = engine.why(node, contents)
    cached, going_on = len(node.units), []
    if reason:
        lacking = engine.store.lacking(node.key, node.units)
        partly = len(node.units) - len(lacking)
        # Asked for, or made from something else: then what is there does not count.
        cached = partly if partly < len(node.units) and node.step.name not in engine.refresh else 0
        if node.step.runs_model and node.model and node.model.name in plan.streams:
            going_on = under_way(engine.store, node.key, lacking)
    rows = _rows(infos[node.model.name], plan.samples) if node.step.name == "extract" and node.model else None
    return StepStatus(node.title, len(node.units), cached, rows, reason, tuple(going_on))


def _rows(info: CheckpointInfo, samples: Sequence[Sample]) -> int | None:
    if info.layers is None or info.attention_heads is None:
        return None
    # A sample of n tokens has the position buckets 0 to floor(log2(n)).
    return info.layers * info.attention_heads * sum(len(sample.input_ids).bit_length() for sample in samples)
