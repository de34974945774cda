"""How much of the selection, and of the predictions, hangs on ties and on the precision of index scores."""

from __future__ import annotations

from pydantic import Field

from indexscope.analysis.settings import BootstrapSettings


class StabilitySettings(BootstrapSettings):
    """Ties, chunks and score precisions that change the selection."""

    fragile: float = Field(
        default=0.01,
        gt=0.0,
        lt=1.0,
        description="Share of a layer's selection that ties or FP8 scores change from which on it counts as fragile.",
    )
