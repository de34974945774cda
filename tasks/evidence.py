"""Whether the selection holds the evidence that answers need, where the data mark any."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis("evidence", Reads("extract"), place=105, wanted=lambda given: bool(given.evidence))
