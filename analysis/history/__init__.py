"""A study over time: what is kept of its reports, the rows of its runs, and when each gate broke."""

from __future__ import annotations

from analysis.history.gates import Break, breaks
from analysis.history.numbers import kept
from analysis.history.timeline import Run, Stretch, models_of, stretches
from analysis.history.trends import Point, default_metrics, known_metrics, main_models, trend

__all__ = [
    "Break",
    "Point",
    "Run",
    "Stretch",
    "breaks",
    "default_metrics",
    "kept",
    "known_metrics",
    "main_models",
    "models_of",
    "stretches",
    "trend",
]
