"""What is kept of a report for good: its numbers over all layers, its gates and its verdict, in a few kilobytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from indexscope.analysis.leaks import LEAKS, leaking_in
from indexscope.analysis.metrics.registry import REGISTRY

METRIC = ("model", "name", "unit", "value", "ci_low", "ci_high", "n")
COMPARISON = ("candidate", "metric", "unit", "difference", "ci_low", "ci_high", "n")
GATE = ("name", "rule", "value", "passed")
#: Of metrics that are not built in.
DEFINITION = ("name", "unit", "better", "kind")
MODEL = ("name", "role", "fingerprint")


def kept(report: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a report (the content of ``report.json``).

    Returns:
        verdict (level and headline), models, gates, definitions of metrics that are not built in, and the metrics and
        comparisons over all layers; the rows of each as lists in the order of `MODEL`, `GATE`, `DEFINITION`, `METRIC`
        and `COMPARISON`. Names of the models that stand for series are kept as ``series``, with those of the series;
        names of candidates that have no result are kept as ``missing``, and those of models that leak
        as ``leaks``, where there are any.
    """
    verdict = report["verdict"]
    missing = [row["model"] for row in report.get("warnings", ()) if row.get("kind") == "missing"]
    leaking = sorted(leaking_in(report))
    return {
        "verdict": {"level": verdict["level"], "headline": verdict["headline"]},
        "models": [[row[key] for key in MODEL] for row in report["models"]],
        **({"missing": missing} if missing else {}),
        **({LEAKS: leaking} if leaking else {}),
        **({"series": series} if (series := _series(report)) else {}),
        "gates": [[row[key] for key in GATE] for row in report["gates"]],
        "definitions": [
            [row[key] for key in DEFINITION]
            for row in report.get("definitions", ())
            if row["name"] not in REGISTRY.built_in
        ],
        "metrics": [[row[key] for key in METRIC] for row in report["metrics"] if row["layer"] is None],
        "comparisons": [[row[key] for key in COMPARISON] for row in report["comparisons"] if row["layer"] is None],
    }


def _series(report: Mapping[str, Any]) -> dict[str, str]:
    """The series of each model that stands for one."""
    listed = report.get("provenance", {}).get("settings", {}).get("candidates", ())
    names = {row["name"] for row in report["models"]}
    return {one["name"]: one["series"] for one in listed if one.get("series") and one["name"] in names}
