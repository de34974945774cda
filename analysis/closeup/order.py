"""Keys in the order of their scores: what the best so many hold, and which selections topk could have made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from indexscope.analysis.features.rows import sort_keys


def held(p: torch.Tensor, eligible: torch.Tensor, scores: torch.Tensor | None = None) -> torch.Tensor:
    """Share of the attention that the first 1, 2, ... keys hold, best first.

    Keys of equal score have no order: each counts as the mean of its equals. So the share is the expectation over all
    ways to break ties, and never more than what as many keys hold in the order of p itself.

    Args:
        p: Attention, [..., K]; 0 outside E_t.
        eligible: E_t, same shape; its keys come before all others.
        scores: By which keys are ordered, same shape; by default p.

    Returns:
        [..., K], float64, not falling, 1 from n_t keys on.
    """
    if scores is None:
        # Keys outside E_t hold nothing, and equal ones are their own mean.
        sums = sort_keys(p).flip(-1).double().cumsum(-1)
        return sums / sums[..., -1:]
    found, place = descending(ranking(scores, eligible))
    mass = p.double().gather(-1, place)
    fresh = torch.ones_like(found, dtype=torch.bool)
    fresh[..., 1:] = found[..., 1:] != found[..., :-1]
    group = fresh.long().cumsum(-1) - 1
    total = torch.zeros_like(mass).scatter_add_(-1, group, mass)
    count = torch.zeros_like(mass).scatter_add_(-1, group, torch.ones_like(mass))
    sums = (total / count.clamp(min=1.0)).gather(-1, group).cumsum(-1)
    return sums / sums[..., -1:]


def descending(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values without NaN in descending order, and where each comes from; equal ones come in any order.

    numpy sorts with vector instructions, several times as fast as torch does on a CPU.
    """
    if values.device.type != "cpu":
        return values.sort(dim=-1, descending=True)
    place = torch.from_numpy(np.argsort(-values.detach().numpy(), axis=-1))
    return values.gather(-1, place), place


def ranking(scores: torch.Tensor, eligible: torch.Tensor) -> torch.Tensor:
    """Scores whose descending order puts every eligible key before all others: -inf there, finite within."""
    least = torch.finfo(scores.dtype).min
    return scores.clamp(min=least).masked_fill(~eligible, -torch.inf)


@dataclass(frozen=True)
class Choice:
    """What topk of k_t keys may choose from scores: all of ``sure``, and ``room`` of the keys in ``tied``.

    Attributes:
        k: Keys to choose, [..., Q], int64.
        sure: Keys above the k-th score, [..., Q, K], bool.
        tied: Keys at the k-th score, [..., Q, K], bool.
        room: Places left for them, [..., Q], int64.
    """

    k: torch.Tensor
    sure: torch.Tensor
    tied: torch.Tensor
    room: torch.Tensor

    @property
    def is_tie(self) -> torch.Tensor:
        """Whether the k-th and the (k+1)-th score are equal, [..., Q], bool."""
        return self.tied.sum(-1) > self.room

    def lost(self, other: torch.Tensor) -> torch.Tensor:
        """Fewest keys by which a selection [..., Q, K] differs from any that topk may choose here, [..., Q], int64."""
        above = (self.sure & ~other).sum(-1)
        return above + (self.room - (self.tied & other).sum(-1)).clamp(min=0)

    def by(self, priority: torch.Tensor) -> torch.Tensor:
        """The one of these selections that takes the tied keys of the smallest priority, [..., Q, K].

        Args:
            priority: A number for each key, no two of a row alike, int32.
        """
        return self.sure | first(self.tied, priority, self.room)

    def nearest(self, other: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """The one of these selections that is nearest to another, and among those to the model's own, [..., Q, K]."""
        keys = own.shape[-1]
        return self.by((~other).int() * (2 * keys) + (~own).int() * keys + earliest(own))


def choice(scores: torch.Tensor, up: torch.Tensor, k: torch.Tensor) -> Choice:
    """All selections of the k best keys.

    Args:
        scores: [..., Q, K].
        up: Keys up for selection, [Q, K]; at least k of them.
        k: How many are selected, [Q].
    """
    ranked = ranking(scores, up)
    threshold = nth(ranked, ranked.shape[-1] - k)
    some = (k > 0).unsqueeze(-1)
    sure, tied = (ranked > threshold) & some, (ranked == threshold) & up & some
    return Choice(k, sure, tied, k - sure.sum(-1))


def first(mask: torch.Tensor, rank: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """The first ``count`` [..., Q] keys of a mask [..., Q, K] by rank, small first; no two of a row have the same."""
    ranked = rank.masked_fill(~mask, torch.iinfo(rank.dtype).max)
    return mask & (ranked <= nth(ranked, count - 1)) & (count > 0).unsqueeze(-1)


def top(scores: torch.Tensor, up: torch.Tensor, k: torch.Tensor, priority: torch.Tensor | None = None) -> torch.Tensor:
    """The k best keys, [..., Q, K], bool; among equal scores those of small priority (by default the earliest) first.

    Args:
        scores: [..., Q, K].
        up: Keys up for selection, [Q, K].
        k: How many are selected, [Q].
        priority: As for `Choice.by`.
    """
    return choice(scores, up, k).by(earliest(up) if priority is None else priority)


def earliest(up: torch.Tensor) -> torch.Tensor:
    """The priority of earlier keys, shaped like a mask [Q, K], int32."""
    return torch.arange(up.shape[-1], device=up.device, dtype=torch.int32).expand(up.shape)


def own_priority(exact: Choice, own: torch.Tensor) -> torch.Tensor:
    """Earliest first, but among keys tied at the exact k-th score the model's own choice takes the earliest places.

    With it, `top` of the exact scores is the model's selection again, and nothing else is favoured: keys that become
    equal only by rounding are ordered by position.
    """
    place, mine = earliest(own), exact.tied & own
    places = sort_keys(place.masked_fill(~exact.tied, own.shape[-1]))
    rank = torch.where(mine, mine.cumsum(-1), (exact.tied & ~own).cumsum(-1) + mine.sum(-1, keepdim=True))
    return torch.where(exact.tied, places.gather(-1, (rank - 1).clamp(min=0)), place)


def nth(values: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """The value at a place [...] of each row's ascending order, [..., 1]; the nearest that there is."""
    place = place.expand(values.shape[:-1]).clamp(min=0, max=values.shape[-1] - 1)
    return sort_keys(values).gather(-1, place.unsqueeze(-1))
