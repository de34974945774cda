"""Planted rows: selections and attention as given, for one chunk of one layer."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.rows import CloseupRows


def planted_rows(
    layer: int,
    query: list[int],
    selected: NDArray[np.bool_] | None,
    p: NDArray[np.float64],
    weight: list[float] | None = None,
    own: bool = True,
    scores: NDArray[np.float64] | None = None,
) -> CloseupRows:
    """Rows of a layer at some queries, all earlier keys eligible, [Q, K] with K = last query + 1."""
    count, keys = p.shape
    positions = torch.tensor(query)
    eligible = torch.arange(keys) <= positions[:, None]
    mean = torch.from_numpy(p).float() * eligible
    return CloseupRows(
        layer=layer,
        query=positions,
        weight=torch.tensor(weight or [1.0] * count, dtype=torch.float64),
        n=eligible.sum(-1),
        p=mean,
        head_p=mean[None],
        eligible=eligible,
        selected=None if selected is None else torch.from_numpy(selected) & eligible,
        scores=None if scores is None else torch.from_numpy(scores).float(),
        head_scores=None,
        head_weights=None,
        selects=selected is not None,
        scored=own,
    )
