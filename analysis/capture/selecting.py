"""Selectors laid over a model: who chooses a layer's keys in place of its own indexer, or where it has none."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import nn

from indexscope.analysis.capture.chunk import AttentionChunk

#: Where an attention module keeps its selector.
SELECTOR = "indexscope_selector"

Carried = dict[Any, Any]
"""What selectors hand on within one forward of a sequence, from layer to layer and from chunk to chunk."""
#: With a layer's index, where they leave its selection for layers that share it, and what it came from.
SELECTED, OPERANDS = "selected", "operands"


@runtime_checkable
class Selector(Protocol):
    """Chooses the keys of one layer."""

    @property
    def topk(self) -> int:
        """Keys that it selects for a query at most."""
        ...

    @property
    def heads(self) -> int | None:
        """Indexer heads that it scores with; None where it scores nothing."""
        ...

    @property
    def dim(self) -> int | None:
        """Width of one."""
        ...

    @property
    def stages(self) -> tuple[int | None, int | None]:
        """Keys of a block, and of all kept blocks, where blocks are scored before keys; None where all keys are."""
        ...

    @property
    def scorer(self) -> nn.Module | None:
        """Module that scores and is no indexer of the model's own: its parameters and time are an indexer's."""
        ...

    def choose(self, chunk: AttentionChunk, carried: Carried) -> AttentionChunk:
        """The chunk with this selection, within E_t, and the scores it comes from; the same however it is cut.

        Args:
            chunk: As the layer itself would have it.
            carried: Of this run and thread alone. What the chunk before left is there until ``chunk.start`` is 0 again.
        """
        ...


def selector_of(attention: nn.Module) -> Selector | None:
    """The selector of an attention module, if it has one."""
    found: Selector | None = getattr(attention, SELECTOR, None)
    return found


def selectors(model: nn.Module) -> list[Selector]:
    """The selectors laid over a model, in layer order."""
    return [found for module in model.modules() if (found := selector_of(module)) is not None]
