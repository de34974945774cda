"""The command verify: is a store as it was committed?"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.stores import DAMAGED, Json, StoreArgument, counted, existing_store


def verify_store(
    store: StoreArgument = ".indexscope",
    discard: Annotated[
        bool, typer.Option("--discard", help="Remove damaged units, so that the next run computes them again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read every byte of a store and compare it with what was committed. Exits with 1 if something differs."""
    from indexscope.flows.engine.narrate import progress
    from indexscope.flows.tables import size_text
    from indexscope.storage.store.keys import StepKey
    from indexscope.storage.store.packs import FOLDER as PACKS
    from indexscope.storage.upkeep.verify import Finding, verify

    opened = existing_store(store)
    findings: list[dict[str, Any]] = []

    def tell(finding: Finding) -> None:
        fields = {name: getattr(finding, name) for name in ("kind", "digest", "unit", "file", "problem")}
        findings.append(fields)
        if not as_json:
            place = finding.file or finding.unit or "manifest.json"
            typer.echo(f"{finding.kind}/{finding.digest}/{place}: {finding.problem}")

    summary = verify(opened, tell, lambda units: progress("verify", units))
    damaged = {(StepKey(found["kind"], found["digest"], {}), found["unit"]) for found in findings if found["unit"]}
    for key, unit in damaged if discard else ():
        opened.discard(key, unit)
    for found in findings if discard else ():
        if str(found["file"]).startswith(f"{PACKS}/"):
            opened.discard_pack(StepKey(found["kind"], found["digest"], {}), found["file"])
    if as_json:
        print(json.dumps({**asdict(summary), "findings": findings}, ensure_ascii=False))
    else:
        result = "all as committed" if not findings else f"{counted(len(findings), 'problem')}"
        typer.echo(f"{counted(summary.units, 'unit')}, {size_text(summary.bytes)} read: {result}")
        if damaged:
            remedy = "discarded" if discard else "damaged; give --discard to remove what is damaged,"
            typer.echo(f"{counted(len(damaged), 'unit')} {remedy} and run the study to compute it again")
        if summary.leftovers:
            left = counted(summary.leftovers, "file")
            typer.echo(f"{left} of no unit: being written now, or left by a crash (gc deletes those)")
    raise typer.Exit(DAMAGED if findings else 0)


COMMAND = Command(
    "verify",
    verify_store,
    place=100,
    examples=(
        "indexscope verify /scratch/indexscope",
        "indexscope verify /scratch/indexscope --discard",
    ),
)
