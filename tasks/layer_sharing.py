"""Which layers could share a selection."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis("layer_sharing", Reads("closeup"), place=70)
