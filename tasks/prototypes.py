"""The maps that stand for each cluster."""

from __future__ import annotations

from tasks.common.analysis import analysis
from tasks.common.declared import Reads

STEP = analysis("prototypes", Reads("probe"), Reads("clustering"), place=110)
