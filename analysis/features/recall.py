"""What the selection holds of the dense attention, and what the layer's output loses (DESIGN, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from indexscope.analysis.capture.observers import sink_weight
from indexscope.analysis.features.rows import MASKED, AttentionRows, sort_keys

# Below this selected mass, p within S_t has lost its digits and the softmax over S_t is computed afresh.
TINY_MASS = 1e-6


@dataclass(frozen=True)
class Outcome:
    """The attention output that the model goes on with, and how it was reached.

    Attributes:
        output: [batch, heads, queries, value width].
        per_head: Metrics [batch, heads, queries].
        per_query: Metrics of the head mean, [batch, queries].
    """

    output: torch.Tensor
    per_head: dict[str, torch.Tensor]
    per_query: dict[str, torch.Tensor]


def attend(rows: AttentionRows) -> Outcome:
    """The model's own attention output from p; with a selection also recall and output error.

    head_recall is the dense mass inside S_t of each head, selection_recall that of the head mean; oracle_recall is
    what the best k_t keys of the head mean hold, random_recall k_t / n_t; oracle_overlap is the share of the oracle's
    keys in S_t; output_error is ||o_sparse - o_dense|| / ||o_dense||. Where groups of heads select for themselves,
    the head mean is that of each group, and its metrics are averaged over groups.
    """
    chunk = rows.chunk
    beyond = sink_weight(chunk, rows.highest) / rows.z
    dense = chunk.weigh(rows.p) / (1 + beyond)
    if rows.selected is None:
        return Outcome(dense, {}, {})
    groups = rows.selected.shape[1]
    selected = rows.selected.repeat_interleave(rows.p.shape[1] // groups, 1) if groups > 1 else rows.selected
    kept = rows.p * selected
    mass = kept.sum(-1)
    sparse = chunk.weigh(kept) / (mass.unsqueeze(-1) + beyond)
    lost = mass < TINY_MASS
    if bool(lost.any()):
        sparse = torch.where(lost.unsqueeze(-1), _afresh(rows, selected), sparse)
    error = torch.linalg.vector_norm(sparse - dense, dim=-1) / torch.linalg.vector_norm(dense, dim=-1)
    return Outcome(sparse, {"head_recall": mass, "output_error": error}, _of_mean(rows, rows.selected))


def _afresh(rows: AttentionRows, selected: torch.Tensor) -> torch.Tensor:
    """Softmax over S_t alone, zero where S_t is empty."""
    shifted = rows.shifted.masked_fill(~selected, MASKED)
    highest = shifted.amax(-1, keepdim=True)
    weights = torch.exp(shifted - highest) * selected
    total = weights.sum(-1, keepdim=True) + sink_weight(rows.chunk, highest + rows.highest)
    return rows.chunk.weigh(weights) / torch.where(total > 0, total, 1.0)


def _of_mean(rows: AttentionRows, selected: torch.Tensor) -> dict[str, torch.Tensor]:
    mean = rows.group_mean(selected.shape[1])
    selected = selected.expand(mean.shape)
    k_t = selected.sum(-1, keepdim=True)
    ascending = sort_keys(mean)
    keys = mean.shape[-1]
    from_top = torch.arange(keys, 0, -1, device=mean.device)
    edge = ascending.gather(-1, (keys - k_t).clamp(max=keys - 1))
    # Where weights are equal at the oracle's edge, selected keys go first, as long as the oracle has room.
    room = k_t - (mean > edge).sum(-1, keepdim=True)
    tied = (selected & (mean == edge)).sum(-1, keepdim=True)
    shared = (selected & (mean > edge)).sum(-1, keepdim=True) + torch.minimum(tied, room)
    found = {
        "selection_recall": (mean * selected).sum(-1),
        "oracle_recall": (ascending * (from_top <= k_t)).sum(-1),
        "random_recall": k_t.squeeze(-1) / rows.n.unsqueeze(1),
        "oracle_overlap": (shared / k_t).squeeze(-1),
    }
    return {name: value.mean(1) for name, value in found.items()}
