"""What the data says to change, and what each change is expected to lose and to save."""

from __future__ import annotations

from pydantic import Field

from indexscope.analysis.settings import Share
from indexscope.settings import Frozen


class RecommendationSettings(Frozen):
    """What the data says to change."""

    max_recall_loss: Share = Field(
        default=0.01, description="Recall that a recommended change may lose at most (upper bound of its interval)."
    )
    tolerance: Share = Field(
        default=0.001,
        description="Recall that counts as nothing: changes that lose no more are ranked by saving alone.",
    )
