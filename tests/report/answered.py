"""Frames with known numbers for the figures and answers over all models."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from indexscope.analysis.metrics.tables import PAIRED
from indexscope.analysis.recommendations.tables import OPTIONS, RECOMMENDATIONS
from indexscope.analysis.report.inputs import ReportInput

Frames = dict[str, pl.DataFrame]


def with_frames(given: ReportInput, model: str, analysis: str, frames: Frames) -> ReportInput:
    """The report with the frames of an analysis of one model."""
    pages = [
        replace(page, analyses={**page.analyses, analysis: frames}) if page.name == model else page
        for page in given.models
    ]
    return replace(given, models=pages)


def changes(kept: float, lost: tuple[float, float, float], layers: int = 3) -> Frames:
    """Selection changes: kept falls by 0.1 a layer, attention lost has that value and interval."""
    rows = [("light", "selection_kept", None, kept, "share", kept - 0.01, kept + 0.01, 64)]
    rows += [("light", "selection_kept", layer, kept - 0.1 * layer, "share", 0.0, 1.0, 64) for layer in range(layers)]
    rows.append(("light", "selection_mass_lost", None, lost[0], "share", lost[1], lost[2], 64))
    for place, name in enumerate(("dropped", "added")):
        mass = 0.03 - 0.01 * place
        rows += [("light", f"selection_mass_{name}", layer, mass, "share", mass, mass, 64) for layer in range(layers)]
    return {"metrics": pl.DataFrame(rows, schema=list(PAIRED.schema), orient="row").cast(dict(PAIRED.schema))}


def advice(loss: float, low: float | None, high: float | None, change: str = "k = 48 instead of 64") -> Frames:
    """One recommendation, and that it was weighed with one that loses more."""
    row = {"kind": "key_budget", "change": change, "expected_loss": loss, "ci_low": low, "ci_high": high}
    row |= {"saving": 0.25, "saving_at_64k": 0.01}
    more = row | {"change": "k = 8 instead of 64", "expected_loss": 0.5, "ci_low": None, "ci_high": None, "saving": 0.6}
    options = [row | {"recommended": True}, more | {"recommended": False}]
    return {
        "recommendations": pl.DataFrame([{"rank": 1, **row}], schema=RECOMMENDATIONS.schema),
        "recommendation_options": pl.DataFrame(options, schema=OPTIONS.schema),
    }


def variants(changed: float) -> Frames:
    """Stability: FP8 changes that share of the selection, ties nothing."""
    rows = [(None, "fp8", changed, changed - 0.01, changed + 0.01, 8), (None, "ties", 0.0, 0.0, 0.0, 8)]
    names = ["layer", "variant", "changed", "ci_low", "ci_high", "n"]
    return {"variants": pl.DataFrame(rows, schema=names, orient="row")}
