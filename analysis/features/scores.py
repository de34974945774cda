"""What the index scores look like, and how they diverge from the attention (DESIGN, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from indexscope.analysis.features.rows import MASKED, AttentionRows
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


def score_features(rows: AttentionRows, scores: ScoreRows) -> dict[str, torch.Tensor]:
    """Divergence of the attention from the scores, margin, ties and zeros of each row, averaged over groups.

    Args:
        rows: The chunk.
        scores: Its index scores.

    Returns:
        [batch, queries] each: indexer_kl = KL(head-mean p || softmax I) in nats over E_t (the warm-up loss of DSA),
        NaN where an eligible key has no score of its own; score_margin = (k-th score - best one not chosen) /
        standard deviation of the row; tie_share = share of the choice whose score equals both the k-th and one not
        chosen, so that topk chose between equals; zero_share = share of the entries up for selection with I = 0.
        Margin and ties are NaN where everything is chosen.
    """
    up, chosen, found = scores.up, scores.chosen, scores.scores
    n = up.sum(-1)
    finite = found.masked_fill(~up, 0.0)
    centre = finite.sum(-1) / n
    variance = ((finite - centre.unsqueeze(-1)).square() * up).sum(-1) / n
    kth = found.masked_fill(~chosen, torch.inf).amin(-1)
    rival = found.masked_fill(chosen | ~up, -torch.inf).amax(-1)
    in_effect = torch.isfinite(rival) & torch.isfinite(kth)
    ties = ((found == kth.unsqueeze(-1)) & chosen).sum(-1) / chosen.sum(-1)
    margin = (kth - rival) / variance.sqrt()
    features = {
        "indexer_kl": _divergence(rows, scores),
        # Equal scores have margin 0 even where the whole row is constant.
        "score_margin": torch.where(in_effect, torch.where(kth == rival, 0.0, margin), torch.nan),
        "tie_share": torch.where(in_effect, torch.where(kth == rival, ties, 0.0), torch.nan),
        "zero_share": ((finite == 0) & up).sum(-1) / n,
    }
    return {name: value.nanmean(1) for name, value in features.items()}


def _divergence(rows: AttentionRows, scores: ScoreRows) -> torch.Tensor:
    if not scores.are_keys:
        return torch.full_like(scores.scores[..., 0], torch.nan)
    log_q = torch.log_softmax(scores.scores.masked_fill(~scores.up, MASKED), dim=-1)
    mean = rows.group_mean(scores.scores.shape[1])
    kl = torch.special.xlogy(mean, mean).sum(-1) - (mean * log_q).sum(-1)
    complete = (scores.up | ~rows.eligible.unsqueeze(1)).all(-1)
    return torch.where(complete, kl.clamp(min=0.0), torch.nan)


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
