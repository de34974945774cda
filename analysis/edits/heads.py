"""Dropping indexer heads: the indexer becomes the smaller one that a checkpoint without them would hold."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import nn

from indexscope.analysis.capture.streaming.made import change
from indexscope.analysis.edits.putting import put


def keep_heads(indexer: nn.Module, heads: Sequence[int], undo: ExitStack) -> None:
    """Leave an indexer these heads, in place.

    What it holds by head (rows of its query projection, of its head weights, and scales of its queries) is cut; widths
    follow, so that its own code computes as if it had been made so.

    Args:
        indexer: Of a family that scores tokens.
        heads: That stay, ascending.
        undo: Takes what puts the dropped ones back.
    """
    count = int(indexer.n_heads)  # type: ignore[arg-type]
    if len(heads) == count:
        return
    for module in list(indexer.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.shape[0] % count == 0 and _by_head(module, name, parameter, indexer, count):
                change(module, name, partial(_rows, tuple(heads), count), undo)
        if isinstance(module, nn.Linear) and module.out_features != module.weight.shape[0]:
            put(module, "out_features", module.weight.shape[0], undo)
    put(indexer, "n_heads", len(heads), undo)


def _rows(heads: tuple[int, ...], count: int, stored: torch.Tensor) -> torch.Tensor:
    """What some of the heads have of a parameter."""
    kept = torch.tensor(heads, device=stored.device)
    return stored.view(count, -1, *stored.shape[1:]).index_select(0, kept).flatten(0, 1)


def _by_head(module: nn.Module, name: str, parameter: nn.Parameter, indexer: nn.Module, count: int) -> bool:
    """Whether the first dimension of a parameter goes by head: those of keys have as many rows as a head is wide."""
    if module in (
        getattr(indexer, "wk", None),
        getattr(indexer, "k_norm", None),
        getattr(indexer, "q_input_norm", None),
    ):
        return False
    rows = parameter.shape[0]
    return rows in (count, count * int(indexer.head_dim))  # type: ignore[arg-type]
