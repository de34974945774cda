"""What each indexer head does at a query: its share, its own selection, what is lost without it, where it looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.features.positions import AXES, RELATIVE_BINS
from indexscope.analysis.indexer_heads.block import HeadBlock
from indexscope.analysis.indexer_heads.kernels import place_selections
from indexscope.analysis.indexer_heads.tables import FOCUS, HEADS, PAIRS

Positions = dict[str, NDArray[np.float64]]

LOCAL_KEYS = 32
SINK_KEYS = 4


def head_measures(block: HeadBlock, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All quantities whose means are kept, and each head's own selection.

    Args:
        block: Indexer heads at some queries.
        ids: The sample's tokens, [length], on the block's device.

    Returns:
        The quantities in the order of HEADS.weights, [B, J, quantities], NaN where undefined: ``contribution`` where no
        head scores a chosen key, the focus of a head where it adds to no key (w[t, j] <= 0, or all its ReLU are zero),
        and likewise what it votes against; and the inclusion in each head's own top k, [B, J, K].
    """
    contribution, heads = block.contribution, block.relu.shape[1]
    n, k = block.up.sum(-1), block.k
    magnitude = (contribution.abs() @ block.chosen.double().unsqueeze(-1)).squeeze(-1)
    together = contribution.sum(1, keepdim=True)
    # A key that only this head scores is left with exactly zero, and a head without any score changes nothing.
    inclusion = block.inclusion(torch.cat([contribution, together, together - contribution], dim=1))
    (own_overlap, kept, kept_without), (own_recall, recall_with, recall_without) = (
        torch.split_with_sizes(part, (heads, 1, heads), dim=1) for part in block.outcome(inclusion)
    )
    chance = k / n.double()
    forced = (block.p * block.forced).sum(-1)
    found = {
        "active_share": (block.relu > 0).sum(-1) / n.unsqueeze(-1).double(),
        "positive_share": (block.head_weight > 0).double(),
        "negative_share": (block.head_weight < 0).double(),
        "own_overlap": own_overlap,
        "random_overlap": chance.unsqueeze(-1),
        "own_recall": own_recall,
        "random_recall": (chance * (block.p * block.up).sum(-1) + forced).unsqueeze(-1),
        "kept": kept,
        "kept_without": kept_without,
        "recall": (block.p * (block.chosen | block.forced)).sum(-1, keepdim=True),
        "recall_with": recall_with,
        "recall_without": recall_without,
        # 0 / 0, and so unknown, where no head scores a chosen key.
        "contribution": magnitude / magnitude.sum(-1, keepdim=True),
        **_focus(block, ids),
    }
    quantities = torch.stack([found[name].expand(-1, heads) for name in HEADS.weights], dim=-1)
    return quantities, inclusion[:, :heads]


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


def pair_measures(block: HeadBlock, own: torch.Tensor) -> torch.Tensor:
    """Cosine, correlation and overlap of all pairs of heads in the order of PAIRS.weights, [B, 3, J, J].

    Cosine and Pearson correlation are of ReLU(q[t, j] · k[s]) over the keys up for selection, whatever the heads'
    weights: heads that score alike can be merged by adding their weights, also where those differ in sign. NaN where
    either head scores nothing, or (correlation) the same everywhere. Overlap is x / (2 k - x) with x the expected
    common keys of the two own top k, ties broken at random and independently.
    """
    count = block.up.sum(-1).view(-1, 1, 1)
    centred = (block.relu - block.relu.sum(-1, keepdim=True) / count) * block.up.unsqueeze(1)
    common = own @ own.mT
    norm = torch.linalg.vector_norm(block.relu, dim=-1, keepdim=True)
    found = {
        "cosine": _cosines(block.relu, norm, torch.zeros_like(norm)),
        # Equal scores less their mean leave rounding, which correlates with nothing.
        "correlation": _cosines(centred, torch.linalg.vector_norm(centred, dim=-1, keepdim=True), 1e-12 * norm),
        "overlap": common / (2 * block.k.view(-1, 1, 1) - common),
    }
    return torch.stack([found[name] for name in PAIRS.weights], dim=1)


def _cosines(vectors: torch.Tensor, norm: torch.Tensor, least: torch.Tensor) -> torch.Tensor:
    """Cosines of all pairs of vectors [B, J, K]; NaN where one's norm is not above ``least``, both [B, J, 1]."""
    known = norm.masked_fill(norm <= least, torch.nan)
    return (vectors @ vectors.mT / (known * known.mT)).clamp(-1.0, 1.0)


def position_sums(block: HeadBlock, own: torch.Tensor, layers: Sequence[slice], bins: int) -> Iterator[Positions]:
    """Selections by bin of each axis, weighted, of the queries of each layer.

    Args:
        block: Indexer heads at some queries.
        own: Inclusion in each head's own top k, [B, J, K].
        layers: Which queries are of the same layer.
        bins: Bins of the axis distance.

    Yields:
        By axis those of each head's own top k, and last those of a random selector, [J + 1, bins].
    """
    chance = block.k / block.up.sum(-1).double()
    parts = [part.contiguous().cpu().numpy() for part in (own, block.up, block.query, block.weight, chance)]
    sizes = dict(zip(AXES, (bins, RELATIVE_BINS), strict=True))
    for here in layers:
        found = {axis: np.zeros((own.shape[1] + 1, size)) for axis, size in sizes.items()}
        place_selections(*(part[here] for part in parts), *found.values())
        yield found
