"""What to change, from the results of the other analyses."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis(
    "advice", Reads("profile"), Reads("budget"), Reads("heads"), Reads("sharing"), Reads("efficiency"), place=120
)
