"""The command report: the report alone."""

from __future__ import annotations

from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.studies import File, Full, Overrides, Refresh, run, settings


def report(file: File = None, overrides: Overrides = None, refresh: Refresh = None, full: Full = False) -> None:
    """Write the report of what is stored. The last line on stdout is its folder."""
    run("report", file, settings(overrides, full), refresh)


COMMAND = Command(
    "report",
    report,
    place=60,
    examples=(
        "indexscope report study.yaml",
        "indexscope report study.yaml --set report=reports/for-review",
    ),
)
