"""A study over time: what is kept of its reports, the rows of its runs, and when each gate broke."""

from __future__ import annotations

from indexscope.analysis.history.gates import Break, breaks
from indexscope.analysis.history.numbers import kept
from indexscope.analysis.history.timeline import Run, Stretch, models_of, stretches
from indexscope.analysis.history.trends import Point, default_metrics, known_metrics, main_models, trend

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
