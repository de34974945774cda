"""What the selection holds of the dense attention, and what the layer's output loses (DESIGN, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from analysis.capture.model import sink_weight
from analysis.features.rows import MASKED, AttentionRows

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
    keys in S_t; output_error is ||o_sparse - o_dense|| / ||o_dense||.
    """
    chunk = rows.chunk
    dense = chunk.weigh(rows.p)
    if chunk.sinks is not None:
        dense = dense * (rows.z / (rows.z + sink_weight(chunk, rows.highest)))
    if chunk.selected is None:
        return Outcome(dense, {}, {})
    selected = chunk.selected
    kept = rows.p * selected
    mass = kept.sum(-1)
    sparse = chunk.weigh(kept)
    if chunk.sinks is None:
        sparse = sparse / mass.unsqueeze(-1)
    else:
        sparse = sparse / (mass.unsqueeze(-1) + sink_weight(chunk, rows.highest) / rows.z)
    lost = mass < TINY_MASS
    if chunk.sinks is None and bool(lost.any()):
        afresh = chunk.weigh(rows.shifted.masked_fill(~selected, MASKED).softmax(-1))
        sparse = torch.where(lost.unsqueeze(-1), afresh, sparse)
    error = torch.linalg.vector_norm(sparse - dense, dim=-1) / torch.linalg.vector_norm(dense, dim=-1)
    return Outcome(sparse, {"head_recall": mass, "output_error": error}, _of_mean(rows, selected[:, 0]))


def _of_mean(rows: AttentionRows, selected: torch.Tensor) -> dict[str, torch.Tensor]:
    mean = rows.mean
    k_t = selected.sum(-1)
    # Every query in effect selects the same number of keys; the others are left out of these metrics.
    oracle = mean.topk(int(k_t.max()), dim=-1)
    return {
        "selection_recall": (mean * selected).sum(-1),
        "oracle_recall": oracle.values.sum(-1),
        "random_recall": k_t / rows.n,
        "oracle_overlap": selected.gather(-1, oracle.indices).float().mean(-1),
    }
