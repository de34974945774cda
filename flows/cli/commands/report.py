"""The command report: the report alone."""

from __future__ import annotations

from typing import Annotated

import typer

from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.studies import File, Full, Overrides, Refresh, run, settings
from indexscope.flows.tables import emit

Schema = Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of report.json, and do nothing else.")]
Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]


def report(
    file: File = None,
    overrides: Overrides = None,
    refresh: Refresh = None,
    full: Full = False,
    browse: Open = False,
    schema: Schema = False,
) -> None:
    """Write the report of what is stored, and tell it in a few lines. The last line on stdout is its folder."""
    if schema:
        from indexscope.analysis.report.json_schema import document

        emit(document())
        return
    run("report", file, settings(overrides, full), refresh, browse)


COMMAND = Command(
    "report",
    report,
    place=60,
    examples=(
        "indexscope report study.yaml --open",
        "indexscope report study.yaml --set report=reports/for-review",
    ),
)
