"""The index scores of some queries, and what sketches of their distribution add up."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from indexscope.analysis.features.rows import AttentionRows
from indexscope.analysis.features.sketch import BINS, KEPT_BITS


@dataclass(frozen=True)
class ScoreRows:
    """The index scores of some queries. G is 1, or the number of groups that select for themselves.

    Attributes:
        scores: I, [batch, G, queries, entries].
        up: Entries that were up for selection, same shape.
        chosen: Entries among them that the indexer chose, same shape.
        are_keys: Whether entry s is key s.
    """

    scores: torch.Tensor
    up: torch.Tensor
    chosen: torch.Tensor
    are_keys: bool

    @classmethod
    def of(cls, rows: AttentionRows) -> ScoreRows | None:
        """The scores of these rows, or None where the layer has none of its own."""
        chunk = rows.chunk
        chosen = chunk.selected if chunk.entries is None else chunk.chosen
        if chunk.scores is None or chosen is None:
            return None
        eligible = rows.eligible if chunk.entries is None else None
        return cls.from_masks(_queries(chunk.scores, rows), _queries(chosen, rows), eligible)

    @classmethod
    def from_masks(cls, scores: torch.Tensor, chosen: torch.Tensor, eligible: torch.Tensor | None) -> ScoreRows:
        """From scores and choice [batch, (G,) queries, entries]; E_t [batch, queries, keys] if entries are keys."""
        scores = (scores if scores.dim() == 4 else scores.unsqueeze(1)).float()
        chosen = chosen if chosen.dim() == 4 else chosen.unsqueeze(1)
        up = ~torch.isneginf(scores)
        if eligible is not None:
            up = up & eligible.unsqueeze(1)
        return cls(scores, up, chosen & up, eligible is not None)


def _queries(values: torch.Tensor, rows: AttentionRows) -> torch.Tensor:
    return values[..., rows.first : rows.last, :]


def sketch_sums(scores: ScoreRows, in_effect: torch.Tensor, centre: float) -> tuple[torch.Tensor, torch.Tensor]:
    """What `indexscope.analysis.features.sketch.ScoreSketch` keeps, of the scores of queries in effect.

    Args:
        scores: The index scores.
        in_effect: [batch, queries].
        centre: About which moments are taken.

    Returns:
        Moments [batch, 2, 6], float64, and histograms [batch, 2, BINS], int64, of chosen and other entries.
    """
    moments, histograms = [], []
    for item in range(scores.scores.shape[0]):
        counted = scores.up[item] & in_effect[item].unsqueeze(-1)
        for mask in (scores.chosen[item], ~scores.chosen[item]):
            values = scores.scores[item][counted & mask]
            about = values.double() - centre
            empty = values.new_zeros(1)
            some = values if len(values) else empty
            moments.append(
                torch.stack(
                    [
                        torch.tensor(float(len(values)), dtype=torch.float64, device=values.device),
                        *(about.sum(), about.square().sum(), some.min().double(), some.max().double()),
                        (values == 0).sum().double(),
                    ]
                )
            )
            bins = (values.view(torch.int32) >> (32 - KEPT_BITS)).long() & (BINS - 1)
            histograms.append(torch.bincount(bins, minlength=BINS))
    batch = scores.scores.shape[0]
    return torch.stack(moments).view(batch, 2, 6), torch.stack(histograms).view(batch, 2, BINS)
