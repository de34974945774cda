"""Plug-ins as a family of metrics, next to those that are built in."""

from __future__ import annotations

from collections.abc import Sequence

from indexscope.analysis.comparison.gates import ALIASES
from indexscope.analysis.metrics.metric import Computed, Family, Metric
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.plugins import Plugin


def family_of(declared: Sequence[Plugin]) -> Family | None:
    """The family of a study's own metrics; None without any.

    Raises:
        IndexscopeError: A name is taken, by a built-in metric, a short name of one, or another file.
    """
    seen: dict[str, Plugin] = {}
    for one in declared:
        remedy = "give the function another name"
        if one.name in REGISTRY.built_in:
            raise one.refused(f"there is a built-in metric {one.name}", remedy)
        if one.name in ALIASES:
            raise one.refused(f"{one.name} is short for the built-in metric {ALIASES[one.name]}", remedy)
        if one.name in seen:
            raise one.refused(f"{seen[one.name].file} declares {one.name} too", remedy)
        seen[one.name] = one
    if not seen:
        return None
    about = "Declared by the study itself, in the files that it names under `plugins`."
    return Family(1000, "Metrics of the study's own", about, tuple(_metric(one) for one in declared))


def _metric(one: Plugin) -> Metric:
    formula = f"as the function {one.name} in {one.file} computes it (SHA-256 {one.digest[:12]})"
    return Metric(one.name, one.unit, one.better, one.meaning, formula, Computed("plugins", one.origin))
