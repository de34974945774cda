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


class TrainingSettings(Frozen):
    """How indexers are trained; every one of these numbers shapes the weights."""

    dense: int = Field(400, ge=0, description="Steps of the dense stage, which all indexers share.")
    sparse: int = Field(200, ge=0, description="Steps of the sparse stage, of each indexer.")
    batch: int = Field(1, ge=1, description="Sequences of a step.")
    queries: int = Field(256, ge=1, description="Queries of a sequence that the loss is computed on, drawn anew.")
    chunk: int = Field(256, ge=1, description="Queries that run through the body at once; bounds the memory.")
    learning_rate: float = Field(4e-3, gt=0.0, le=1.0, description="Highest learning rate of AdamW.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of weights, order of samples and drawn queries.")
