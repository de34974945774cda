"""What each indexer head does at a query: its share, its own selection, what is lost without it, where it looks."""

from __future__ import annotations

import torch

from indexscope.analysis.features.positions import AXES, RELATIVE_BINS, distance_bins, relative_bins
from indexscope.analysis.indexer_heads.block import HeadBlock
from indexscope.analysis.indexer_heads.tables import FOCUS

LOCAL_KEYS = 32
SINK_KEYS = 4


def head_measures(block: HeadBlock, own: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """All quantities whose means are kept.

    Args:
        block: Indexer heads at some queries.
        own: Inclusion in each head's own top k, [B, J, K].
        ids: The sample's tokens, [length], on the block's device.

    Returns:
        [B, J] each, NaN where undefined: ``contribution`` where no head scores a chosen key, the focus of a head where
        it adds to no key (w[t, j] <= 0, or all its ReLU are zero), and likewise what it votes against.
    """
    contribution, heads = block.contribution, block.relu.shape[1]
    n, k = block.up.sum(-1), block.k
    magnitude = (contribution.abs() @ block.chosen.double().unsqueeze(-1)).squeeze(-1)
    total = magnitude.sum(-1, keepdim=True)
    together = contribution.sum(1, keepdim=True)
    with_all = block.inclusion(together)
    # A key that only this head scores is left with exactly zero, and a head without any score changes nothing.
    without = block.inclusion(together - contribution)
    chance = k / n.double()
    uniform = block.up.unsqueeze(1) * chance.view(-1, 1, 1)
    found = {
        "active_share": (block.relu > 0).sum(-1) / n.unsqueeze(-1).double(),
        "positive_share": (block.head_weight > 0).double(),
        "negative_share": (block.head_weight < 0).double(),
        "own_overlap": block.kept(own),
        "random_overlap": chance.unsqueeze(-1),
        "own_recall": block.recall(own),
        "random_recall": block.recall(uniform),
        "kept": block.kept(with_all),
        "kept_without": block.kept(without),
        "recall": (block.p * (block.chosen | block.forced)).sum(-1, keepdim=True),
        "recall_with": block.recall(with_all),
        "recall_without": block.recall(without),
        "contribution": torch.where(total > 0, magnitude / total, torch.nan),
        **_focus(block, ids),
    }
    return {name: value.expand(-1, heads) for name, value in found.items()}


def _focus(block: HeadBlock, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Where a head's contribution lies, and where it would lie if every key up for selection scored alike."""
    total = block.relu.sum(-1, keepdim=True)
    columns = _columns(block, ids)
    up = block.up.double()
    share = block.relu @ columns / total
    uniform = (up.unsqueeze(1) @ columns / up.sum(-1).view(-1, 1, 1)).expand_as(share)
    found: dict[str, torch.Tensor] = {}
    for prefix, votes in (("", block.head_weight > 0), ("against_", block.head_weight < 0)):
        known = votes.unsqueeze(-1) & (total > 0)
        for kind, values in (("", share), ("uniform_", uniform)):
            parts = torch.where(known, values, torch.nan).unbind(-1)
            found |= {f"{prefix}{kind}{name}": part for name, part in zip(FOCUS, parts, strict=True)}
    return found


def _columns(block: HeadBlock, ids: torch.Tensor) -> torch.Tensor:
    """Distance and membership of each key in what FOCUS names, [B, K, len(FOCUS)], float64."""
    distance = block.distance
    key = torch.arange(distance.shape[-1], device=distance.device)
    follows = torch.zeros_like(block.up)
    follows[:, 1:] = ids[: len(key) - 1] == ids[block.query].unsqueeze(-1)
    parts = (
        distance,
        distance < LOCAL_KEYS,
        (key < SINK_KEYS).expand_as(distance),
        distance == 0,
        distance == 1,
        follows,
    )
    return torch.stack([part.double() for part in parts], -1)


def pair_measures(block: HeadBlock, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cosine, correlation and overlap of all pairs of heads, [B, J, J] each.

    Cosine and Pearson correlation are of ReLU(q[t, j] · k[s]) over the keys up for selection, whatever the heads'
    weights: heads that score alike can be merged by adding their weights, also where those differ in sign. NaN where
    either head scores nothing, or (correlation) the same everywhere. Overlap is x / (2 k - x) with x the expected
    common keys of the two own top k, ties broken at random and independently.
    """
    count = block.up.sum(-1).view(-1, 1, 1)
    centred = (block.relu - block.relu.sum(-1, keepdim=True) / count) * block.up.unsqueeze(1)
    common = own @ own.mT
    norm = torch.linalg.vector_norm(block.relu, dim=-1, keepdim=True)
    return (
        _cosines(block.relu, torch.zeros_like(norm)),
        # Equal scores less their mean leave rounding, which correlates with nothing.
        _cosines(centred, 1e-12 * norm),
        common / (2 * block.k.view(-1, 1, 1) - common),
    )


def _cosines(vectors: torch.Tensor, least: torch.Tensor) -> torch.Tensor:
    """Cosines of all pairs of vectors [B, J, K]; NaN where one is not longer than ``least`` [B, J, 1]."""
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    unit = vectors / torch.where(norm > least, norm, torch.nan)
    return (unit @ unit.mT).clamp(-1.0, 1.0)


def position_sums(block: HeadBlock, own: torch.Tensor, bins: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Weighted selections of each head's own top k by bin, [J, bins], and those of a random selector, [bins].

    Args:
        block: Indexer heads at some queries.
        own: Inclusion in each head's own top k, [B, J, K].
        bins: Bins of the axis distance.
    """
    chance = block.up * (block.weight * block.k / block.up.sum(-1)).unsqueeze(-1)
    weighted = own * block.weight.view(-1, 1, 1)
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for axis, index, size in zip(
        AXES, (distance_bins(block.distance), relative_bins(block.up)), (bins, RELATIVE_BINS), strict=True
    ):
        member = torch.nn.functional.one_hot(index, size).double()
        found[axis] = (weighted @ member).sum(0).cpu(), (chance.unsqueeze(1) @ member).sum((0, 1)).cpu()
    return found
