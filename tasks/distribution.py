"""How metrics and index scores are distributed."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis("distribution", Reads("extract"), place=10)
