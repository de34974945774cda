"""Every metric at every context length."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis("context_length", Reads("extract"), place=100)
