"""How the work is spread."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from indexscope.settings import Frozen


class RunnerSettings(Frozen):
    """How the work is spread over this machine; it changes no result."""

    kind: Literal["threads", "processes"] = Field("threads", description="Workers of one process, or processes.")
    workers: int = Field(1, ge=1, le=256, description="Shards worked on at once; the cores are shared out among them.")
