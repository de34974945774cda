"""Which kinds of tokens are selected."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis("content", Reads("probe"), place=80)
