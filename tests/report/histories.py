"""Histories to test with: runs whose numbers, gates and dates are planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from indexscope.analysis.history.timeline import Run, Stretch, stretches

START = datetime(2026, 1, 1, 3, 0, tzinfo=UTC)
RULE = "selection_recall.difference >= -0.02"


def numbers(
    recall: float, gates: Mapping[str, bool | None] | None = None, candidates: Sequence[str] = ("light",), **more: Any
) -> dict[str, Any]:
    """What is kept of a report: a baseline of recall 0.8 and loss 2, and candidates of the given recall, all ± 0.01."""
    rule = more.get("rule", RULE)
    metrics = [["base", "selection_recall", "share", 0.8, 0.79, 0.81, 64], ["base", "nll", "nats", 2.0, 1.98, 2.02, 64]]
    comparisons = []
    for name in candidates:
        metrics += [
            [name, "selection_recall", "share", recall, recall - 0.01, recall + 0.01, 64],
            [name, "nll", "nats", 2.8 - recall, 2.79 - recall, 2.81 - recall, 64],
            [name, "indexer_flops", "FLOPs/token", 5e6, None, None, None],
        ]
        difference = recall - 0.8
        comparisons.append([name, "selection_recall", "share", difference, difference - 0.004, difference + 0.004, 64])
    return {
        "verdict": {"level": "worse", "headline": "Compared with base, light has lower recall."},
        "models": [["base", "baseline", "b" * 20], *([name, "candidate", "c" * 20] for name in candidates)],
        "gates": [[name, rule, recall - 0.8, passed] for name, passed in (gates or {}).items()],
        "metrics": metrics,
        "comparisons": comparisons,
    }


def run(day: int, result: str, kept: Mapping[str, Any] | None, changed: str = "", problem: str = "") -> Run:
    """A run that ended on a day of January."""
    return Run(START + timedelta(days=day - 1), result, kept, problem, changed)


def broken_and_mended(gate: str = "recall is kept", candidates: Sequence[str] = ("light",)) -> list[Stretch]:
    """Ten nights: recall is 0.8, falls to 0.7 on the fifth, and is back on the eighth; the gate follows it."""
    runs = []
    for day in range(1, 11):
        bad = 5 <= day < 8
        recall = (0.7 if bad else 0.8) + 0.001 * day
        changed = {1: "", 5: "checkpoint of light changed aaaaaaaa → bbbbbbbb", 8: "extract.chunk changed 64 → 128"}
        kept = numbers(recall, {gate: not bad}, candidates)
        runs.append(run(day, f"result {day}", kept, changed.get(day, "the same inputs computed anew")))
    return stretches(runs)
