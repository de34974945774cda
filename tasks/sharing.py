"""Which layers could share a selection."""

from __future__ import annotations

from tasks.common.analysis import analysis
from tasks.common.declared import Reads

STEP = analysis("sharing", Reads("probe"), place=70)
