"""Which patterns attention maps fall into; fitted on all models together, so that a cluster means the same in each."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis("clustering", Reads("extract"), Reads("extract", of_each=True), place=20)
