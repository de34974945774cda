"""Which kinds of tokens are selected."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis("token_content", Reads("closeup"), place=80)
