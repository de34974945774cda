"""What a layer shows, where it lies until all layers have been seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from indexscope.analysis.capture.streaming.states import Leaf, States
from indexscope.analysis.closeup.rows import CloseupRows


@dataclass(frozen=True)
class Resting:
    """The rows of one layer of one chunk; what grows with the number of keys lies with the outputs of layers.

    Attributes:
        rest: Everything else, by the names that `CloseupRows` has.
        leaves: What has a number for each key, by name.
    """

    rest: Mapping[str, Any]
    leaves: Mapping[str, Leaf]

    @classmethod
    def of(cls, rows: CloseupRows, states: States) -> Resting:
        """Put rows away."""
        large = {
            name: value for name, value in vars(rows).items() if isinstance(value, torch.Tensor) and value.dim() > 1
        }
        rest = {name: value for name, value in vars(rows).items() if name not in large}
        return cls(rest, {name: Leaf(value, states) for name, value in large.items()})

    def taken(self) -> CloseupRows:
        """The rows, bit by bit as they were; they are not asked for again."""
        found: dict[str, Any] = {name: leaf.value() for name, leaf in self.leaves.items()}
        for leaf in self.leaves.values():
            leaf.drop()
        return CloseupRows(**self.rest, **found)
