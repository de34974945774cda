"""Which of a model's layers each layer of a dump is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.observers import capture_sparse
from indexscope.analysis.capture.source import Source
from indexscope.analysis.parity.records import Dumped
from indexscope.errors import IndexscopeError


@dataclass(frozen=True)
class ModelLayers:
    """Which layers a model has.

    Attributes:
        attending: Those with an attention map.
        selecting: Those of them that select, by an indexer of their own or by an earlier layer's selection.
        scoring: Those of them with an indexer of their own.
    """

    attending: tuple[int, ...]
    selecting: tuple[int, ...]
    scoring: tuple[int, ...]

    def of(self, record: Dumped) -> dict[int, int]:
        """The place of each of the model's layers in a record.

        Raises:
            IndexscopeError: The record holds another number of layers, or names layers that do not select.
        """
        remedy = "name the model's layer of each layer of the dump in the study, layers: [0, 1, ...]"
        if record.named is not None:
            if unknown := [layer for layer in record.named if layer not in self.selecting]:
                reason = f"holds layer {unknown[0]}, which does not select; those that do are {_listed(self.selecting)}"
                raise IndexscopeError(record.name, reason, remedy)
            return {layer: place for place, layer in enumerate(record.named)}
        for layers in (self.attending, self.selecting, self.scoring):
            if len(layers) == record.layers:
                return {layer: place for place, layer in enumerate(layers) if layer in self.selecting}
        reason = (
            f"holds {record.layers} layers, and the model has {len(self.attending)}, of which {len(self.selecting)} "
            f"select and {len(self.scoring)} have an indexer"
        )
        raise IndexscopeError(record.name, reason, remedy)


def model_layers(source: Source) -> ModelLayers:
    """Run two tokens and look."""
    seen: dict[int, tuple[bool, bool]] = {}

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        seen[chunk.layer] = chunk.selected is not None, chunk.scores is not None
        return capture_sparse(chunk)

    for _ in source.run(torch.zeros((1, 2), dtype=torch.int64, device=source.device), observe, 2):
        pass
    layers = sorted(seen)
    return ModelLayers(
        tuple(layers),
        tuple(layer for layer in layers if seen[layer][0]),
        tuple(layer for layer in layers if seen[layer][1]),
    )


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers)) or "none"
