"""The command compare: the comparisons alone."""

from __future__ import annotations

from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.studies import File, Full, Overrides, Refresh, run, settings


def compare(file: File = None, overrides: Overrides = None, refresh: Refresh = None, full: Full = False) -> None:
    """Compare the candidates with the baseline, from the stored analyses."""
    run("compare", file, settings(overrides, full), refresh)


COMMAND = Command(
    "compare",
    compare,
    place=50,
    examples=("indexscope compare study.yaml",),
)
