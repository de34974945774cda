"""How many keys would do."""

from __future__ import annotations

from tasks.common.analysis import analysis
from tasks.common.declared import Reads

STEP = analysis("budget", Reads("probe"), place=50)
