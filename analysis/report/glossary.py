"""What each number of a report means, where it stands in the page, and the way back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.report.catalogue import wanted
from indexscope.analysis.report.inputs import ReportInput

_SAFE = re.compile(r"[a-z][a-z0-9_]{0,59}")


@dataclass(frozen=True)
class Definition:
    """One metric as the registry defines it.

    Attributes:
        slug: What its ids in the page end in.
        name: Its name.
        unit: Its unit.
        wanted: Which direction is better, in words, or "".
        meaning: One plain line.
        formula: The definition.
        range: Values that it can take.
        misleads: What can make it mislead.
        source: Paper or report, or "".
        uses: Where the page shows it: id and label of each table.
    """

    slug: str
    name: str
    unit: str
    wanted: str
    meaning: str
    formula: str
    range: str
    misleads: str
    source: str
    uses: tuple[tuple[str, str], ...]


def slugs(report: ReportInput) -> dict[str, str]:
    """For every metric of the report that the registry defines: what its ids end in, safe in any page."""
    named = {*report.metrics["metric"].to_list(), *report.comparisons["metric"].to_list()}
    known = [name for name in REGISTRY if name in named]
    return {name: name if _SAFE.fullmatch(name) else f"own-{place}" for place, name in enumerate(known)}


def glossary(found: Mapping[str, str], tables: Iterable[tuple[str, str, Iterable[str]]]) -> tuple[Definition, ...]:
    """Definitions in the registry's order.

    Args:
        found: As `slugs` gives them.
        tables: Id prefix, label and metrics of each table whose rows carry ids.
    """
    uses: dict[str, list[tuple[str, str]]] = {name: [] for name in found}
    for prefix, label, metrics in tables:
        for name in metrics:
            if name in found:
                uses[name].append((f"{prefix}-{found[name]}", label))
    return tuple(_definition(name, slug, tuple(uses[name])) for name, slug in found.items())


def _definition(name: str, slug: str, uses: tuple[tuple[str, str], ...]) -> Definition:
    entry = REGISTRY[name]
    return Definition(
        slug=slug,
        name=name,
        unit=entry.unit,
        wanted=wanted(name),
        meaning=entry.meaning,
        formula=entry.formula,
        range=entry.range,
        misleads=entry.misleads,
        source=entry.source,
        uses=uses,
    )
