"""What single indexer heads score at the sampled queries in effect, a few queries at once, and what they would select.

Ties. ReLU makes exact zeros, so that a single head often has far fewer than k keys above zero, and which of the others
a topk takes is chance. Whatever is asked of a selection here is therefore its expectation over random choices among
the keys that tie at the k-th score: each is taken with the same probability (`inclusion`). It is exact and needs no
seed. A head that scores nothing selects like a random selector, overlap k_t / n_t, and not like anything better.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.order import nth
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.closeup.stacked import Stacked, stacked

# Scores (queries x heads x keys) that are held at once; about six float64 tensors of this size live side by side.
_SCORES = {"cpu": 1 << 20, "cuda": 1 << 24}


@dataclass(frozen=True)
class HeadBlock:
    """Indexer heads at B queries in effect: K keys, J indexer heads.

    Attributes:
        layer: Layer of each query, [B], int64; layers come one after the other.
        query: Positions of the queries, [B], int64.
        weight: How many queries each stands for, [B], float64.
        relu: ReLU(q[t, j] · k[s]), [B, J, K], float64; 0 for keys that were not up for selection.
        head_weight: w[t, j], [B, J], float64; 1 where heads count alike.
        up: Keys that were up for selection, [B, K].
        chosen: Keys among them in S_t, [B, K].
        forced: Keys of S_t that were not up for selection, because the family forces them, [B, K].
        k: Chosen keys, [B], int64, at least 1.
        p: Dense attention of the head mean, [B, K], float64.
    """

    layer: NDArray[np.int64]
    query: torch.Tensor
    weight: torch.Tensor
    relu: torch.Tensor
    head_weight: torch.Tensor
    up: torch.Tensor
    chosen: torch.Tensor
    forced: torch.Tensor
    k: torch.Tensor
    p: torch.Tensor

    @cached_property
    def contribution(self) -> torch.Tensor:
        """w[t, j] ReLU(q[t, j] · k[s]), [B, J, K], whose sum over heads is I. A product of float32 is exact here."""
        return self.head_weight.unsqueeze(-1) * self.relu

    @property
    def distance(self) -> torch.Tensor:
        """How far each key is behind the query, t - s, [B, K], int64; negative for future keys."""
        return self.query.unsqueeze(-1) - torch.arange(self.p.shape[-1], device=self.p.device)

    def inclusion(self, scores: torch.Tensor) -> torch.Tensor:
        """Probability that each key is among the k best by some scores.

        Args:
            scores: [B, M, K] for M selectors; keys that were not up for selection are left out.

        Returns:
            [B, M, K], float64, adding up to k: 1 above the k-th score, 0 below it, and among the keys that tie with it
            the free places divided by their number.
        """
        masked = scores.masked_fill(~self.up.unsqueeze(1), -torch.inf)
        kth = nth(masked, scores.shape[-1] - self.k.unsqueeze(-1))
        above, tied = masked > kth, masked == kth
        room = (self.k.view(-1, 1, 1) - above.sum(-1, keepdim=True)).double()
        return (tied * (room / tied.sum(-1, keepdim=True))).masked_fill_(above, 1.0)

    def outcome(self, inclusion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What selections of the chosen keys' number keep and hold, [B, M] each.

        Returns:
            kept, the expected share of the chosen keys that are among them; recall, the expected dense attention of the
            head mean on them, forced keys included.
        """
        sums = inclusion @ torch.stack([self.chosen.double(), self.p], dim=-1)
        forced = (self.p * self.forced).sum(-1, keepdim=True)
        return sums[..., 0] / self.k.unsqueeze(-1), sums[..., 1] + forced


def head_blocks(layers: Sequence[CloseupRows]) -> Iterator[HeadBlock]:
    """The queries in effect of the layers whose indexer heads are seen, as many at a time as fit."""
    for rows in stacked(layers):
        yield from _blocks(rows)


def _blocks(rows: Stacked) -> Iterator[HeadBlock]:
    if rows.scores is None or rows.head_scores is None or rows.selected is None:
        return
    up = rows.scores.isfinite() & rows.eligible
    chosen = rows.selected & up
    places = torch.nonzero(rows.in_effect & chosen.any(-1)).squeeze(-1)
    heads, keys = rows.head_scores.shape[1:]
    step = max(1, _SCORES.get(up.device.type, 1 << 20) // (heads * keys))
    for first in range(0, len(places), step):
        place = places[first : first + step]
        here = place.to(rows.query.device)
        weights = rows.head_weights
        yield HeadBlock(
            layer=rows.layer[here.numpy()],
            query=rows.query[here].to(up.device),
            weight=rows.weight[here].to(up.device),
            relu=rows.head_scores[place].double() * up[place].unsqueeze(1),
            head_weight=rows.head_scores.new_ones((len(place), heads), dtype=torch.float64)
            if weights is None
            else weights[place].double(),
            up=up[place],
            chosen=chosen[place],
            forced=rows.selected[place] & ~up[place],
            k=chosen[place].sum(-1),
            p=rows.p[place].double(),
        )
