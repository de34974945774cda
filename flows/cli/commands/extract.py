"""The command extract: the features alone."""

from __future__ import annotations

from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.studies import File, Full, Overrides, Refresh, run, settings


def extract(file: File = None, overrides: Overrides = None, refresh: Refresh = None, full: Full = False) -> None:
    """Run the models over the dataset and store their features."""
    run("extract", file, settings(overrides, full), refresh)


COMMAND = Command(
    "extract",
    extract,
    place=30,
    examples=(
        "indexscope extract study.yaml",
        "indexscope extract study.yaml --set runner.workers=2",
    ),
)
