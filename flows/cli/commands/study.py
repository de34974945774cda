"""The command study: everything, or what it would be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.studies import DryRun, File, Full, Overrides, Refresh, run, settings

if TYPE_CHECKING:
    from indexscope.flows.study.plan import Plan


def study(
    file: File = None, overrides: Overrides = None, refresh: Refresh = None, full: Full = False, dry_run: DryRun = False
) -> None:
    """Run a study from checkpoints and a dataset to the report; what the store has is not computed again.

    At the end a few lines tell the report; the last line on stdout is its folder.
    """
    if dry_run:
        _show_plan(file, settings(overrides, full), refresh)
    else:
        run("study", file, settings(overrides, full), refresh)


def _show_plan(file: Path | None, overrides: list[str], refresh: list[str] | None) -> None:
    from indexscope.flows.study.load import load_study
    from indexscope.flows.study.preflight import check_folders
    from indexscope.flows.study.refresh import chosen

    read = load_study(file, overrides)
    check_folders(read, "study")
    from indexscope.flows.study.plan import make_plan

    _print_plan(make_plan(read, chosen(refresh or [], "study")))


def _print_plan(plan: Plan) -> None:
    """Print what a study would do and why."""
    from indexscope.flows.study.status import status
    from indexscope.flows.tables import new_table, show

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
    dumps = f", {len(plan.dumps)} dumps of selections" if plan.dumps else ""
    print(f"{shape}; {len(plan.models)} models on {plan.given.device}{dumps}")
    print("rows: per sample, layer, head and position bucket, in the attention table")
    print("nothing to do: the store has everything" if not missing else f"{missing} units to compute")
    for note in plan.notes:
        print(note)
    for line in lines:
        for going_on in line.under_way:
            print(f"{line.step}: {going_on}")


COMMAND = Command(
    "study",
    study,
    place=20,
    examples=(
        "indexscope study study.yaml --dry-run",
        "indexscope study study.yaml --set extract.device=cuda",
    ),
)
