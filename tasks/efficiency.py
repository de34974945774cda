"""What the indexer costs and saves."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis("efficiency", Reads("extract"), Reads("profile"), place=40)
