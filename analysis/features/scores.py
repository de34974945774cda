"""What the index scores look like, and how they diverge from the attention (DESIGN, section 4)."""

from __future__ import annotations

from dataclasses import dataclass, field

import datasketches
import numpy as np
import torch
from numpy.typing import NDArray

from analysis.features.rows import MASKED, AttentionRows

# t-digest: mergeable, deterministic, and tight in the tails (Dunning and Ertl 2019).
COMPRESSION = 100
GROUPS = ("selected", "unselected")


def score_features(rows: AttentionRows, scores: torch.Tensor, selected: torch.Tensor) -> dict[str, torch.Tensor]:
    """Divergence of the attention from the scores, margin, ties and zeros of each row.

    Args:
        rows: The chunk.
        scores: Index scores I, [batch, queries, keys], -inf outside E_t.
        selected: S_t, [batch, queries, keys].

    Returns:
        [batch, queries] each: indexer_kl = KL(head-mean p || softmax I) in nats over E_t (the warm-up loss of DSA);
        score_margin = (k-th score - best unselected) / standard deviation of the row; tie_share = share of S_t whose
        score equals both the k-th and an unselected one, so that topk chose between equals; zero_share = share of E_t
        with I = 0. Margin and ties are NaN where everything is selected.
    """
    eligible, n = rows.eligible, rows.n
    finite = scores.masked_fill(~eligible, 0.0)
    log_q = torch.log_softmax(scores.masked_fill(~eligible, MASKED), dim=-1)
    mean = rows.mean
    kl = torch.special.xlogy(mean, mean).sum(-1) - (mean * log_q).sum(-1)
    centre = finite.sum(-1) / n
    variance = ((finite - centre.unsqueeze(-1)).square() * eligible).sum(-1) / n
    kth = scores.masked_fill(~selected, torch.inf).amin(-1)
    rival = scores.masked_fill(selected | ~eligible, -torch.inf).amax(-1)
    in_effect = torch.isfinite(rival)
    ties = ((scores == kth.unsqueeze(-1)) & selected).sum(-1) / selected.sum(-1)
    margin = (kth - rival) / variance.sqrt()
    return {
        "indexer_kl": kl.clamp(min=0.0),
        # Equal scores have margin 0 even where the whole row is constant.
        "score_margin": torch.where(in_effect, torch.where(kth == rival, 0.0, margin), torch.nan),
        "tie_share": torch.where(in_effect, torch.where(kth == rival, ties, 0.0), torch.nan),
        "zero_share": ((finite == 0) & eligible).sum(-1) / n,
    }


@dataclass
class ScoreSketch:
    """Distribution of one group of index scores: exact moments and a quantile sketch, both mergeable."""

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0
    minimum: float = np.inf
    maximum: float = -np.inf
    zeros: int = 0
    digest: datasketches.tdigest_float = field(default_factory=lambda: datasketches.tdigest_float(COMPRESSION))

    def update(self, values: NDArray[np.float32]) -> None:
        """Add values; moments merge as in Chan et al. 1979."""
        if not len(values):
            return
        count = len(values)
        mean = float(values.mean(dtype=np.float64))
        m2 = float(np.square(values.astype(np.float64) - mean).sum())
        total = self.count + count
        shift = mean - self.mean
        self.m2 += m2 + shift**2 * self.count * count / total
        self.mean += shift * count / total
        self.count = total
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))
        self.zeros += int((values == 0).sum())
        self.digest.update(np.ascontiguousarray(values, dtype=np.float32))
