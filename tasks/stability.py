"""How far selections hold under other chunks, ties and precisions."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis("stability", Reads("closeup"), Reads("reruns"), place=90)
