"""How far the next-token distributions of each candidate lie from the baseline's."""

from __future__ import annotations

from indexscope.tasks.common.comparing import comparing

STEP = comparing("output_divergence", 40)
