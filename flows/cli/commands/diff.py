"""The command diff: two sides, what of them is shown, and what fails a build."""

from __future__ import annotations

from typing import Annotated

import typer

from indexscope import IndexscopeError
from indexscope.flows.cli.declared import Command

SIDE = "Report (folder or .json file), store or study file; a path or a URL."


def diff_reports(
    a: Annotated[str, typer.Argument(help=SIDE)],
    b: Annotated[
        str | None, typer.Argument(help="What to compare it with; without it, A's candidates with its baseline.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines: all rows.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print GitHub-flavoured Markdown.")] = False,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="M", help="Only this metric or family (index-scores, own).")
    ] = None,
    layer: Annotated[list[int] | None, typer.Option(metavar="N", min=0, help="Only this layer.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Every layer too, not only the whole model.")] = False,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this model; x=y sets x of A beside y of B.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every metric, not only headline metrics and what is better or worse.")
    ] = False,
    fail_on: Annotated[
        list[str] | None, typer.Option(metavar="RULE", help="Exit with 1 if it holds, e.g. 'recall < -0.01'.")
    ] = None,
    study: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Which study of a store; once, or for A and for B.")
    ] = None,
) -> None:
    """Print the differences between two sides, B minus A. Options that name something may be repeated."""
    from indexscope.flows.finished.compared import read_both
    from indexscope.flows.finished.differences import Wanted, print_differences

    if as_json and as_markdown:
        raise IndexscopeError("--json, --markdown", "exclude each other", "choose one")
    form = "json" if as_json else "markdown" if as_markdown else "table"
    wanted = Wanted(form, tuple(metric or ()), tuple(layer or ()), layers, tuple(model or ()), everything)
    first, second = read_both(a, b, study or [])
    raise typer.Exit(print_differences(first, second, wanted, fail_on or [], alone=b is None))


COMMAND = Command(
    "diff",
    diff_reports,
    place=80,
    examples=(
        "indexscope diff study.yaml --layers",
        "indexscope diff reports/before reports/after --fail-on 'recall < -0.01'",
    ),
)
