"""Evidence and answers of each candidate beside the baseline's, where the data mark any."""

from __future__ import annotations

from indexscope.tasks.common.comparing import comparing
from indexscope.tasks.common.declared import Reads

STEP = comparing("evidence_changes", 45, (Reads("evidence"),), lambda given: bool(given.evidence))
