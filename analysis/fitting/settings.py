"""What is fitted, and how."""

from __future__ import annotations

from pydantic import Field

from indexscope.settings import Frozen


class IndexerSize(Frozen):
    """One lightning indexer of a sweep."""

    heads: int = Field(ge=1, le=1024, description="Indexer heads of a layer.")
    dim: int = Field(ge=2, le=4096, description="Width of an indexer head; even, where the model has RoPE.")

    @property
    def name(self) -> str:
        """What tables and folders call it."""
        return f"h{self.heads}-d{self.dim}"


class Stages(Frozen):
    """How many steps."""

    dense: int = Field(default=400, ge=0, description="Steps to attention over all keys; all indexers share them.")
    sparse: int = Field(
        default=200, ge=0, description="Steps to attention over the selected keys; each indexer has its own."
    )


class StepSettings(Frozen):
    """How a step is made."""

    batch: int = Field(default=1, ge=1, description="Sequences of a step.")
    queries: int = Field(
        default=256, ge=1, description="Queries of a sequence that the loss is computed on, drawn anew."
    )
    chunk: int = Field(default=256, ge=1, description="Queries that run through the body at once; bounds the memory.")
    learning_rate: float = Field(default=4e-3, gt=0.0, le=1.0, description="Highest learning rate of AdamW.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of weights, order of samples and drawn queries.")


class TrainingSettings(Stages, StepSettings):
    """How indexers are trained; every one of these numbers shapes the weights."""
