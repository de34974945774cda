"""What to change, from the results of the other analyses."""

from __future__ import annotations

from tasks.common.analysis import analysis
from tasks.common.declared import Reads

STEP = analysis(
    "advice", Reads("profile"), Reads("budget"), Reads("heads"), Reads("sharing"), Reads("efficiency"), place=120
)
