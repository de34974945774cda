"""The attention maps that are most like their cluster's centre."""

from __future__ import annotations

from pydantic import Field

from indexscope.settings import Frozen


class PrototypeSettings(Frozen):
    """Real attention maps that stand for the clusters."""

    of_each: int = Field(default=2, ge=1, le=16, description="Attention maps of each cluster to keep and to draw.")
