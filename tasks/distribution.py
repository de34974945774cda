"""How metrics and index scores are distributed."""

from __future__ import annotations

from tasks.common.analysis import analysis
from tasks.common.declared import Reads

STEP = analysis("distribution", Reads("extract"), place=10)
