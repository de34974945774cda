"""The plan of a study as a table for people at a terminal."""

from __future__ import annotations

from indexscope.flows.plan import Plan
from indexscope.flows.status import status
from indexscope.flows.tables import new_table, show


def print_plan(plan: Plan) -> None:
    """Print what a study would do and why."""
    lines = status(plan)
    table = new_table("step", "units", "cached", "rows", "why it would run")
    for line in lines:
        rows = "" if line.rows is None else f"{line.rows:,}"
        table.add_row(line.step, str(line.units), str(line.cached), rows, line.why or "it would not: cached")
    show(table)
    samples = plan.samples
    missing = sum(line.units - line.cached for line in lines)
    tokens = sum(len(sample.input_ids) for sample in samples)
    shape = f"{len(samples)} samples, {tokens:,} tokens in {len(plan.shards)} shards"
    print(f"{shape}; {len(plan.models)} models on {plan.given.device}")
    print("rows: per sample, layer, head and position bucket, in the attention table")
    print("nothing to do: the store has everything" if not missing else f"{missing} units to compute")
    for note in plan.notes:
        print(note)
