"""Selectors laid over a model: who chooses a layer's keys in place of its own indexer, or where it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import nn

from indexscope.analysis.capture.chunk import AttentionChunk

#: Where an attention module keeps its selector.
SELECTOR = "indexscope_selector"

#: With a layer's index, where its selection is left for layers that share it, as a mask or as indices, and what it came
#: from.
SELECTED, INDICES, OPERANDS = "selected", "indices", "operands"


@dataclass
class Carried:
    """What layers hand on within one forward of a sequence, beside what the model's own code passes on.

    Attributes:
        layers: From layer to layer, of the chunk that runs: by what it is (`SELECTED`, `INDICES`, `OPERANDS`) and the
            index of the layer that it is of.
        chunks: From chunk to chunk, of a layer: what the chunk before left is there until a sequence begins.
    """

    layers: dict[tuple[str, int], Any] = field(default_factory=dict)
    chunks: dict[Any, Any] = field(default_factory=dict)


class TakesOver:
    """What takes an earlier layer's selection: has ``layer``, its own index, and ``source``, that of the other."""


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
            carried: Of this run and thread alone.
        """
        ...


def selector_of(attention: nn.Module) -> Selector | None:
    """The selector of an attention module, if it has one."""
    found: Selector | None = getattr(attention, SELECTOR, None)
    return found


def selectors(model: nn.Module) -> list[Selector]:
    """The selectors laid over a model, in layer order."""
    return [found for module in model.modules() if (found := selector_of(module)) is not None]


def shared_by(model: nn.Module) -> Mapping[int, frozenset[int]]:
    """By each layer whose selection others take, those others."""
    found: dict[int, set[int]] = {}
    for module in model.modules():
        for one in (module, selector_of(module)):
            if isinstance(one, TakesOver):
                found.setdefault(int(one.source), set()).add(int(one.layer))
    return {source: frozenset(layers) for source, layers in found.items()}
