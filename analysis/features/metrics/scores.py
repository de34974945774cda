"""What the index scores look like, row by row, and how they diverge from the attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexscope.analysis.features.feature import FeatureFamily, of_queries

if TYPE_CHECKING:
    import torch

    from indexscope.analysis.features.rows import AttentionRows
    from indexscope.analysis.features.score_rows import ScoreRows
    from indexscope.analysis.features.seen import Seen


def score_features(rows: AttentionRows, scores: ScoreRows) -> dict[str, torch.Tensor]:
    """Divergence of the attention from the scores, gap, margin, ties and zeros of each row, averaged over groups.

    Args:
        rows: The chunk.
        scores: Its index scores.

    Returns:
        [batch, queries] each: indexer_kl = KL(head-mean p || softmax I) in nats over E_t (the warm-up loss of DSA),
        NaN where an eligible key has no score of its own; score_margin = (k-th score - best one not chosen) /
        standard deviation of the row; score_gap = (mean score of the choice - mean of the others up for selection) /
        the same, 0 where all scores are equal; tie_share = share of the choice whose score equals both the k-th and
        one not chosen, so that topk chose between equals; zero_share = share of the entries up for selection with
        I = 0. Margin, gap and ties are NaN where everything is chosen.
    """
    import torch

    up, chosen, found = scores.up, scores.chosen, scores.scores
    n = up.sum(-1)
    finite = found.masked_fill(~up, 0.0)
    centre = finite.sum(-1) / n
    about = (finite - centre.unsqueeze(-1)) * up
    spread = (about.square().sum(-1) / n).sqrt()
    kth = found.masked_fill(~chosen, torch.inf).amin(-1)
    rival = found.masked_fill(chosen | ~up, -torch.inf).amax(-1)
    in_effect = torch.isfinite(rival) & torch.isfinite(kth)
    margin = (kth - rival) / spread
    k = chosen.sum(-1)
    ties = ((found == kth.unsqueeze(-1)) & chosen).sum(-1) / k
    gap = ((about * chosen).sum(-1) / k - (about * ~chosen).sum(-1) / (n - k)) / spread
    constant = found.masked_fill(~up, -torch.inf).amax(-1) == found.masked_fill(~up, torch.inf).amin(-1)
    features = {
        "indexer_kl": _divergence(rows, scores),
        # Equal scores have margin 0 even where the whole row is constant.
        "score_margin": torch.where(in_effect, torch.where(kth == rival, 0.0, margin), torch.nan),
        "score_gap": torch.where(in_effect, torch.where(constant, 0.0, gap), torch.nan),
        "tie_share": torch.where(in_effect, torch.where(kth == rival, ties, 0.0), torch.nan),
        "zero_share": ((finite == 0) & up).sum(-1) / n,
    }
    return {name: value.nanmean(1) for name, value in features.items()}


def _divergence(rows: AttentionRows, scores: ScoreRows) -> torch.Tensor:
    import torch

    from indexscope.analysis.features.rows import MASKED

    if not scores.are_keys:
        return torch.full_like(scores.scores[..., 0], torch.nan)
    log_q = torch.log_softmax(scores.scores.masked_fill(~scores.up, MASKED), dim=-1)
    mean = rows.group_mean(scores.scores.shape[1])
    kl = torch.special.xlogy(mean, mean).sum(-1) - (mean * log_q).sum(-1)
    complete = (scores.up | ~rows.eligible.unsqueeze(1)).all(-1)
    return torch.where(complete, kl.clamp(min=0.0), torch.nan)


def _measure(seen: Seen) -> dict[str, torch.Tensor]:
    import torch

    from indexscope.analysis.features.score_rows import ScoreRows

    scores = seen.once(ScoreRows.of)
    if scores is None:
        return {}
    found = score_features(seen.rows, scores)
    # With one eligible key there is nothing to diverge from.
    several = seen.counted["queries_multi"]
    return found | {name: torch.where(several, found[name], torch.nan) for name in ("indexer_kl", "zero_share")}


FAMILY = FeatureFamily(
    order=30,
    title="Index scores",
    about="Index scores I[t,s] = sum_j w[t,j] ReLU(q[t,j] . k[s]) over E_t, as the model itself computed them.",
    measure=_measure,
    # Of pooled entries: a choice may leave an entry out and yet, by a window, no key.
    masked=True,
    metrics=(
        of_queries(
            "indexer_kl",
            "nats",
            "Divergence of the index scores from the attention: the loss that a lightning indexer is warmed up on.",
            "mean over queries with n_t > 1 of KL((1/H) sum_h p[h,t,.] || softmax over E_t of I[t,.])",
            weight="queries_multi",
            better="lower",
            source="DeepSeek-V3.2-Exp technical report, dense warm-up stage",
            range="≥ 0",
            misleads="Only the order of scores decides the selection: scores of another scale have a large divergence "
            "and may select the same keys. The target is the mean of heads, weighing each alike.",
            label="indexer divergence",
            headline=True,
            of_attention=True,
            kernel=6,
        ),
        of_queries(
            "tie_share",
            "share",
            "Share of the selection that topk chose arbitrarily between equal scores.",
            "mean over queries in effect of |{s in S_t : I[t,s] = k-th score}| / k_t where an unselected key has the "
            "same score, else 0",
            weight="queries_in_effect",
            better="lower",
            misleads="Where many scores are exactly zero, ties are among keys that hold no attention, and which are "
            "taken matters little; in low precision ties are more frequent than here.",
            kernel=4,
        ),
        of_queries(
            "score_margin",
            "sd",
            "How far the last selected score lies above the first unselected one.",
            "mean over queries in effect of (k-th score - (k+1)-th score) / standard deviation of I[t,.] over E_t",
            weight="queries_in_effect",
            range="≥ 0",
            misleads="Shrinks with n_t, since more keys leave smaller gaps between neighbouring scores; a few "
            "outlying scores raise the standard deviation and lower it.",
            kernel=5,
        ),
        of_queries(
            "score_gap",
            "sd",
            "How far the selected scores lie above the unselected ones on average.",
            "mean over queries in effect of (mean of I[t,.] over S_t - mean over the rest of E_t) / standard deviation "
            "of I[t,.] over E_t; 0 where all scores are equal",
            weight="queries_in_effect",
            source="bo-ke/llm-internal-medicine#70 (logs of indexers in training)",
            range="any real number",
            misleads="Choosing the largest makes a gap of any scores: normal noise has 1.6 where half the keys are "
            "selected and 1.95 where a tenth are, and no scores more than n_t / sqrt(k_t (n_t - k_t)). It says how far "
            "apart the scores are as a whole, score_margin how far at the edge, and neither whether they are right; "
            "below 0 the selection does not follow the scores.",
            at_equal_k=True,
            kernel=9,
        ),
        of_queries(
            "zero_share",
            "share",
            "Share of eligible keys with an index score of exactly zero, which ReLU makes common.",
            "mean over queries with n_t > 1 of |{s in E_t : I[t,s] = 0}| / n_t",
            weight="queries_multi",
            misleads="Scores are zero where all heads with weight are cut off by ReLU; negative head weights make "
            "scores below zero that still rank under them. Families that score without ReLU have none by "
            "design.",
            kernel=7,
        ),
    ),
)
