"""The maps that stand for each cluster."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis("prototypes", Reads("closeup"), Reads("clustering"), place=110)
