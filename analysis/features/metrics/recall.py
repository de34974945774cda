"""What the selection holds of the dense attention, and what the layer's output loses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from indexscope.analysis.features.feature import FeatureFamily, of_heads, of_queries
from indexscope.analysis.metrics.metric import Array, Derived, Metric, Ratio
from indexscope.analysis.statistics.resampling import ratio

if TYPE_CHECKING:
    import torch

    from indexscope.analysis.features.rows import AttentionRows

# Below this selected mass, p within S_t has lost its digits and the softmax over S_t is computed afresh.
TINY_MASS = 1e-6


@dataclass(frozen=True)
class Outcome:
    """The attention output that the model goes on with, and how it was reached.

    Attributes:
        output: [batch, heads, queries, value width].
        features: [batch, heads, queries] of heads, [batch, queries] of the head mean; none without a selection.
    """

    output: torch.Tensor
    features: dict[str, torch.Tensor]


def attend(rows: AttentionRows) -> Outcome:
    """The model's own attention output from p; with a selection also recall and output error.

    head_recall is the dense mass inside S_t of each head, selection_recall that of the head mean; oracle_recall is
    what the best k_t keys of the head mean hold, random_recall k_t / n_t; oracle_overlap is the share of the oracle's
    keys in S_t; top_key_kept is 1 where S_t has the key with the largest head mean, else 0; output_error is
    ||o_sparse - o_dense|| / ||o_dense||. Where groups of heads select for themselves, the head mean is that of each
    group, and its metrics are averaged over groups.
    """
    import torch

    from indexscope.analysis.capture.observers import sink_weight

    chunk = rows.chunk
    beyond = sink_weight(chunk, rows.highest) / rows.z
    dense = chunk.weigh(rows.p) / (1 + beyond)
    if rows.selected is None:
        return Outcome(dense, {})
    groups = rows.selected.shape[1]
    selected = rows.selected.repeat_interleave(rows.p.shape[1] // groups, 1) if groups > 1 else rows.selected
    kept = rows.p * selected
    mass = kept.sum(-1)
    sparse = chunk.weigh(kept) / (mass.unsqueeze(-1) + beyond)
    lost = mass < TINY_MASS
    if bool(lost.any()):
        sparse = torch.where(lost.unsqueeze(-1), _afresh(rows, selected), sparse)
    error = torch.linalg.vector_norm(sparse - dense, dim=-1) / torch.linalg.vector_norm(dense, dim=-1)
    return Outcome(sparse, {"head_recall": mass, "output_error": error, **_of_mean(rows, rows.selected)})


def _afresh(rows: AttentionRows, selected: torch.Tensor) -> torch.Tensor:
    """Softmax over S_t alone, zero where S_t is empty."""
    import torch

    from indexscope.analysis.capture.observers import sink_weight
    from indexscope.analysis.features.rows import MASKED

    shifted = rows.shifted.masked_fill(~selected, MASKED)
    highest = shifted.amax(-1, keepdim=True)
    weights = torch.exp(shifted - highest) * selected
    total = weights.sum(-1, keepdim=True) + sink_weight(rows.chunk, highest + rows.highest)
    return rows.chunk.weigh(weights) / torch.where(total > 0, total, 1.0)


def _of_mean(rows: AttentionRows, selected: torch.Tensor) -> dict[str, torch.Tensor]:
    import torch

    from indexscope.analysis.features.rows import sort_keys

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
    # Keys that share the largest weight are alike: to hold one of them is to hold it.
    top = (selected & (mean == ascending[..., -1:])).any(-1)
    shared = (selected & (mean > edge)).sum(-1, keepdim=True) + torch.minimum(tied, room)
    found = {
        "selection_recall": (mean * selected).sum(-1),
        "oracle_recall": (ascending * (from_top <= k_t)).sum(-1),
        "random_recall": k_t.squeeze(-1) / rows.n.unsqueeze(1),
        "oracle_overlap": (shared / k_t).squeeze(-1),
        "top_key_kept": top.to(mean.dtype),
    }
    return {name: value.mean(1) for name, value in found.items()}


def _skill(recall: Array, by_chance: Array, best: Array) -> Array:
    return ratio(np.asarray(recall) - by_chance, np.asarray(best) - by_chance)


_of_selection = partial(of_queries, weight="queries_in_effect")
FAMILY = FeatureFamily(
    order=20,
    title="Selection",
    about=(
        "How much of the dense attention the indexer's selection S_t holds. Only queries with n_t > k_t count: before "
        "that every key is selected and the number says nothing. `in_effect` is the share of queries that count."
    ),
    measure=lambda seen: seen.once(attend).features,
    metrics=(
        Metric(
            "selection_skill",
            "score",
            "higher",
            "How far recall has come from a random selection's (0) to the best one's of the same size (1).",
            "(selection_recall - random_recall) / (oracle_recall - random_recall), of the means over queries in effect",
            Derived("indexer", ("selection_recall", "random_recall", "oracle_recall"), _skill),
            range="≤ 1",
            misleads="What compares indexers of different k, as recall alone does not; but the best choice among more "
            "keys is another task, and near 1 for all where attention is concentrated. Where k_t is nearly n_t it is "
            "a quotient of two small numbers.",
            headline=True,
            of_attention=True,
        ),
        _of_selection(
            "selection_recall",
            "share",
            "Dense attention of the head mean that falls on selected keys.",
            "mean over queries in effect of sum over s in S_t of (1/H) sum_h p[h,t,s]",
            better="higher",
            source="DeepSeek-V3.2-Exp technical report (the indexer is trained towards the head-summed attention)",
            misleads="Rises with k_t / n_t by itself: short contexts flatter it (read random_recall and oracle_recall "
            "beside it). The dense mass that is missed may matter little to the output, or much (see "
            "output_error).",
            headline=True,
            of_attention=True,
            at_equal_k=True,
            kernel=0,
        ),
        _of_selection(
            "oracle_recall",
            "share",
            "What the best possible selection of the same size would hold.",
            "mean over queries in effect of the sum of the k_t largest (1/H) sum_h p[h,t,s]",
            misleads="Best for the mean over heads: a head whose attention differs from the others may lose far more. "
            "It bounds selection_recall and not the quality of the output.",
            label="recall of the best choice",
            of_attention=True,
            kernel=1,
        ),
        _of_selection(
            "random_recall",
            "share",
            "What a random selection of the same size would hold on average.",
            "mean over queries in effect of k_t / n_t",
            range="above 0, below 1",
            misleads="The expectation of a random choice of tokens: a selector that only takes sinks and the nearest "
            "keys reaches far more without knowing any content.",
            label="recall of a random choice",
            kernel=2,
        ),
        Metric(
            "recall_of_oracle",
            "share",
            "higher",
            "Attention that the selection holds, relative to what the best selection would hold.",
            "sum over queries in effect of selected mass / sum over the same queries of oracle mass: a ratio of sums",
            Ratio("indexer", "selection_recall", "queries_in_effect", over="oracle_recall"),
            misleads="Close to 1 where attention is so concentrated that any sensible choice works, and where k_t is "
            "nearly n_t. It compares masses: the keys may be others (see oracle_overlap).",
            label="recall relative to the best choice",
            of_attention=True,
            at_equal_k=True,
        ),
        _of_selection(
            "oracle_overlap",
            "share",
            "Share of the oracle's keys that the indexer also selects.",
            "mean over queries in effect of |S_t and O_t| / k_t, O_t the k_t keys with the largest head-mean attention",
            better="higher",
            misleads="Counts keys that hold next to no attention as much as those that hold most of it: a low overlap "
            "with a high recall means that the tail is chosen otherwise, which costs little.",
            label="overlap with the best choice",
            of_attention=True,
            at_equal_k=True,
            kernel=3,
        ),
        _of_selection(
            "top_key_kept",
            "share",
            "Share of queries whose most attended key is selected.",
            "mean over queries in effect of 1 if argmax over s in E_t of (1/H) sum_h p[h,t,s] is in S_t, else 0; of "
            "keys that share the largest value one in S_t is enough",
            better="higher",
            source="bo-ke/llm-internal-medicine#70 (logs of indexers in training)",
            misleads="Where a sink or the query's own token takes most of the attention, to keep that one key is all "
            "it asks, and a window with sinks reaches 1. One key may hold nearly everything or a hundredth: read "
            "max_weight beside it.",
            label="most attended key selected",
            of_attention=True,
            at_equal_k=True,
            kernel=8,
        ),
        of_heads(
            "head_recall",
            "share",
            "Dense attention of each head that falls on selected keys; its mean over heads is selection_recall.",
            "mean over heads and queries in effect of sum over s in S_t of p[h,t,s]",
            weight="queries_in_effect",
            better="higher",
            misleads="The mean hides heads that the joint selection serves badly; look at the map of heads. Its mean "
            "over heads is selection_recall and no news.",
            at_equal_k=True,
            repeats=("selection_recall",),
            kernel=18,
        ),
        of_heads(
            "output_error",
            "ratio",
            "Relative change of a head's attention output when only selected keys are attended.",
            "mean over heads and queries in effect of ||o_sparse - o_dense|| / ||o_dense||",
            weight="queries_in_effect",
            better="lower",
            range="≥ 0",
            misleads="Relative to the norm of the dense output: a head with an output near zero has a large error "
            "that the model may not notice, and errors of heads can cancel after the output projection.",
            headline=True,
            kernel=19,
        ),
        Metric(
            "in_effect",
            "share",
            "neither",
            "Share of queries with more eligible keys than the indexer may select.",
            "queries with n_t > k_t / all queries",
            Ratio("indexer", "queries_in_effect", "", over="queries"),
            misleads="A property of lengths and k more than of the indexer. Where it is small, sparse and dense runs "
            "are the same computation for most queries, and quality differences say little about sparsity.",
            label="queries in effect",
            headline=True,
        ),
    ),
)
