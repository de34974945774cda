"""The key budget: how many keys keep how much of the attention."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis("key_budget", Reads("closeup"), place=50)
