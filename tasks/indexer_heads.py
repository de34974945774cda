"""What single indexer heads are for."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis("indexer_heads", Reads("closeup"), Reads("reruns"), place=60)
