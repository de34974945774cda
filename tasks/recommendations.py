"""What to change, from the results of the other analyses."""

from __future__ import annotations

from indexscope.tasks.common.analysis import analysis
from indexscope.tasks.common.declared import Reads

STEP = analysis(
    "recommendations",
    Reads("audit"),
    Reads("profile"),
    Reads("key_budget"),
    Reads("indexer_heads"),
    Reads("layer_sharing"),
    Reads("efficiency"),
    place=120,
)
