"""Selections and attention by distance and relative position, with what chance alone would give."""

from __future__ import annotations

from typing import NamedTuple

import torch

from indexscope.analysis.features.rows import AttentionRows

RELATIVE_BINS = 10
AXES = ("distance", "relative")


class BinSums(NamedTuple):
    """Sums over a chunk's queries by distance bin and relative bin, each [distance bins, 10], float64 on the CPU."""

    selections: torch.Tensor
    expected_selections: torch.Tensor
    attention_mass: torch.Tensor
    attention_expected: torch.Tensor


def distance_bins(distance: torch.Tensor) -> torch.Tensor:
    """Bin 0 is distance 0; bin b holds 2^(b-1) <= d < 2^b. Future keys fall into bin 0 and are masked by E_t.

    >>> distance_bins(torch.tensor([0, 1, 2, 3, 4, 7, 8])).tolist()
    [0, 1, 2, 2, 3, 3, 4]
    """
    # frexp gives the exact binary exponent, which a float log2 does not.
    return torch.frexp(distance.clamp(min=0).to(torch.float64)).exponent.long()


def relative_bins(eligible: torch.Tensor) -> torch.Tensor:
    """Tenths of E_t, oldest first: floor(10 r / n_t) for the key of rank r in E_t. [queries, keys], int64."""
    rank = eligible.long().cumsum(-1) - 1
    n = eligible.sum(-1, keepdim=True).clamp(min=1)
    return (rank.clamp(min=0) * RELATIVE_BINS).div(n, rounding_mode="floor").clamp(max=RELATIVE_BINS - 1)


def count_positions(rows: AttentionRows, item: int, counted: torch.Tensor, bins: int) -> BinSums:
    """Sum selections, head-mean attention and their expectations under chance for one batch item.

    A random selector takes each eligible key with probability k_t / n_t, uniform attention gives it 1 / n_t.

    Args:
        rows: The chunk.
        item: Which item of the batch.
        counted: Queries that count, [queries], bool.
        bins: Number of distance bins.

    Returns:
        The sums; selections are zero where the layer has no selection. Where groups of heads select for themselves,
        selections are their mean over groups.
    """
    eligible = rows.eligible[min(item, rows.eligible.shape[0] - 1)]
    selected = None
    if rows.selected is not None:
        selected = rows.selected[min(item, rows.selected.shape[0] - 1)].double().mean(0)
    weight = eligible * counted[:, None]
    chance = weight / eligible.sum(-1, keepdim=True).clamp(min=1)
    attention = rows.mean[item] * counted[:, None]
    flat = (distance_bins(rows.distance) * RELATIVE_BINS + relative_bins(eligible)).flatten()

    def total(weights: torch.Tensor) -> torch.Tensor:
        sums = torch.bincount(flat, weights.flatten().double(), minlength=bins * RELATIVE_BINS)
        return sums.view(bins, RELATIVE_BINS).cpu()

    if selected is None:
        chosen = expected = torch.zeros((bins, RELATIVE_BINS), dtype=torch.float64)
    else:
        chosen = total(selected * weight)
        expected = total(chance * selected.sum(-1, keepdim=True))
    return BinSums(chosen, expected, total(attention), total(chance))
