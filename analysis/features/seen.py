"""Some queries of a chunk with all that a feature of them may depend on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import torch

from indexscope.analysis.features.rows import AttentionRows
from indexscope.analysis.settings import ExtractSettings

T = TypeVar("T")


class Seen:
    """What `measure` of a family of features gets.

    Attributes:
        rows: The queries' dense attention.
        settings: Thresholds and windows.
        top_k: The indexer's k, or the setting for models without one.
        input_ids: The whole sequences, [batch, sequence].
    """

    def __init__(self, rows: AttentionRows, settings: ExtractSettings, top_k: int, input_ids: torch.Tensor) -> None:
        self.rows, self.settings, self.top_k, self.input_ids = rows, settings, top_k, input_ids
        self._found: dict[Callable[[AttentionRows], Any], Any] = {}

    def once(self, function: Callable[[AttentionRows], T]) -> T:
        """What a function makes of the rows; computed once, whoever asks."""
        if function not in self._found:
            self._found[function] = function(self.rows)
        found: T = self._found[function]
        return found

    @cached_property
    def counted(self) -> dict[str, torch.Tensor]:
        """By weight of a feature: the queries that count in it, [batch, queries]."""
        rows = self.rows
        n = rows.n.expand(rows.p.shape[0], -1)
        in_effect = torch.zeros_like(n, dtype=torch.bool)
        if rows.selected is not None:
            in_effect = (rows.selected.sum(-1) < n.unsqueeze(1)).any(1)
        return {"queries": n > 0, "queries_multi": n > 1, "queries_in_effect": in_effect}
