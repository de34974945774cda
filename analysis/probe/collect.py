"""What a look at sampled queries is made of: collectors, each of one concern, made anew for every sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl
import torch

from indexscope.analysis.probe.rows import ProbeRows

Tables = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class ProbedSample:
    """The sample that is looked at.

    Attributes:
        index: Its place in the dataset.
        name: Its document.
        input_ids: Its tokens, [length], int64, on the CPU.
    """

    index: int
    name: str
    input_ids: torch.Tensor


class Collector(Protocol):
    """Takes what all layers show of one sample; a chunk that does not fit into memory leads to a new collector."""

    def add(self, layers: Sequence[ProbeRows]) -> None:
        """Take one chunk: the rows of every layer that has any, by layer; chunks come in order."""
        ...

    def tables(self) -> Tables:
        """The sample's rows of each table, with the column ``sample``; always all tables, empty ones included."""
        ...


Maker = Callable[[ProbedSample], Collector]
