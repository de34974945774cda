"""The command analyze: the analyses alone."""

from __future__ import annotations

from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.studies import File, Full, Overrides, Refresh, run, settings


def analyze(file: File = None, overrides: Overrides = None, refresh: Refresh = None, full: Full = False) -> None:
    """Analyse the stored features of every model."""
    run("analyze", file, settings(overrides, full), refresh)


COMMAND = Command(
    "analyze",
    analyze,
    place=40,
    examples=("indexscope analyze study.yaml --refresh clustering",),
)
