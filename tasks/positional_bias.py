"""Which places an indexer prefers, beyond what chance gives."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis("positional_bias", Reads("extract"), place=30)
