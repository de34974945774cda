"""What uniform attention over the eligible keys would have of each feature of locality, at the same queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.columns import names, of

if TYPE_CHECKING:
    import torch

    from indexscope.analysis.features.seen import Seen

#: Of the table of attention, beside the features: the same for all heads.
COLUMNS = (
    *of(
        pl.Float32,
        "share",
        "queries",
        uniform_key="What uniform attention would give one key, 1 / n_t.",
        uniform_local="What it would give the nearest keys.",
        uniform_sink="What it would give the first keys.",
        uniform_induction="What it would give tokens that followed an earlier copy of the query's token.",
    ),
    *of(pl.Float32, "tokens", "queries", uniform_distance="How far back it would reach on average."),
)
UNIFORM = names(COLUMNS)


def uniform(seen: Seen) -> dict[str, torch.Tensor]:
    """Uniform causal attention in each of `UNIFORM`: |E_t ∩ A| / n_t for a set A of keys; [batch, queries].

    E_t is what the layer lets the query see, so that windows, padding and maps that see the future are as they are.
    NaN without eligible keys, and where some keys are no tokens.
    """
    import torch

    from indexscope.analysis.features.metrics.locality import follows_copy

    rows, settings = seen.rows, seen.settings
    batch = rows.p.shape[0]
    if not rows.all_tokens:
        nothing = torch.full((batch, rows.p.shape[2]), torch.nan, device=rows.p.device)
        return dict.fromkeys(UNIFORM, nothing)
    distance = rows.distance.abs()
    n = torch.where(rows.n > 0, rows.n, torch.nan)
    found = (
        torch.ones_like(n),
        (rows.eligible & (distance < settings.local_window)).sum(-1),
        (rows.eligible & (rows.keys < settings.sink_keys)).sum(-1),
        (rows.eligible & follows_copy(rows, seen.input_ids)).sum(-1),
        (rows.eligible * distance).sum(-1),
    )
    return {name: (sums / n).expand(batch, -1) for name, sums in zip(UNIFORM, found, strict=True)}


class Copies:
    """How many copies of a token lie in a range of positions, for the sequences of a batch.

    Args:
        tokens: Token ids, [batch, sequence].
    """

    def __init__(self, tokens: NDArray[np.int64]) -> None:
        self.length = tokens.shape[1]
        ids = np.unique(tokens, return_inverse=True)[1].reshape(tokens.shape)
        # One number a place, ordered by sequence, then token, then position.
        self.first = (np.arange(len(tokens))[:, None] * (ids.max() + 1) + ids) * self.length
        self.places = np.sort((self.first + np.arange(self.length)).ravel())

    def count(self, position: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
        """Copies of each query's token at low ... high - 1, [batch, queries]; its own place counts if it is there."""
        first = self.first[:, position]
        found = np.searchsorted(self.places, first + high) - np.searchsorted(self.places, first + low)
        return np.asarray(found)


def uniform_of_ranges(
    position: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    copies: Copies,
    window: int,
    sink_keys: int,
) -> NDArray[np.float32]:
    """The same where the eligible keys are the positions low ... high - 1, none after the query.

    Returns:
        [names, batch, queries], in the order of `UNIFORM`.
    """
    n = np.where(high > low, (high - low).astype(np.float64), np.nan)
    first = np.maximum(low, 1) - 1
    sums = (
        np.ones_like(n),
        np.maximum(high - np.maximum(low, position - window + 1), 0),
        np.maximum(np.minimum(high, sink_keys) - low, 0),
        copies.count(position, first, np.maximum(high - 1, first)),
        n * (position - (low + high - 1) / 2),
    )
    return np.stack([one / n for one in sums]).astype(np.float32)
