"""What changed between the models' choices: selections of each candidate beside the baseline's."""

from __future__ import annotations

from indexscope.tasks.common.comparing import comparing

STEP = comparing("selection_changes", 30)
