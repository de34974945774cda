"""Whether another program selects what the model selects: dumped selections beside the model's at the same tokens."""

from __future__ import annotations

from pydantic import Field

from indexscope.settings import Frozen


class ParitySettings(Frozen):
    """Selections from elsewhere, held against the baseline's."""

    tie_tolerance: float = Field(
        default=1e-5,
        ge=0.0,
        lt=1.0,
        description="A key ties with the k-th score where the two differ by at most this share of the row's largest.",
    )
