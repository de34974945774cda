"""How spread out the attention is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexscope.analysis.features.feature import FeatureFamily, of_heads

if TYPE_CHECKING:
    import torch

    from indexscope.analysis.features.rows import AttentionRows


def entropy(rows: AttentionRows) -> dict[str, torch.Tensor]:
    """H = -sum p ln p in nats, H / ln n_t (NaN for n_t = 1), effective keys e^H and participation 1 / sum p^2.

    With p = exp(x) / Z the entropy is ln Z - sum p x, one weighted sum and no logarithm of a small p.

    Returns:
        Four tensors [batch, heads, queries].
    """
    import torch

    h = (rows.log_z - torch.einsum("bhqk,bhqk->bhq", rows.p, rows.shifted)).clamp_(min=0.0)
    ln_n = rows.n.log().unsqueeze(1)
    return {
        "attention_entropy": h,
        "normalized_entropy": torch.where(ln_n > 0, h / ln_n, torch.nan),
        "effective_keys": h.exp(),
        "participation": torch.einsum("bhqk,bhqk->bhq", rows.p, rows.p).reciprocal_(),
    }


FAMILY = FeatureFamily(
    order=40,
    title="Entropy",
    about="How many keys a query's dense attention spreads over, by head. Entropy grows with n_t: compare by bucket.",
    measure=lambda seen: entropy(seen.rows),
    metrics=(
        of_heads(
            "attention_entropy",
            "nats",
            "Entropy of the dense attention.",
            "mean over heads and queries of -sum over s in E_t of p[h,t,s] ln p[h,t,s]",
            range="0 to ln n_t",
            misleads="Grows with n_t, so that a longer dataset has more of it with the same attention; heads of very "
            "different kinds average to a value that none of them has.",
            kernel=0,
        ),
        of_heads(
            "normalized_entropy",
            "share",
            "Entropy as a share of its largest possible value; 1 is uniform attention.",
            "mean over heads and queries with n_t > 1 of the row's entropy / ln n_t",
            weight="queries_multi",
            misleads="Dividing by ln n_t does not remove the length: a head that attends a fixed number of keys has "
            "an ever lower value in longer contexts.",
            label="normalised entropy",
            headline=True,
            kernel=3,
        ),
        of_heads(
            "effective_keys",
            "keys",
            "Number of keys that uniform attention of the same entropy would have.",
            "mean over heads and queries of exp(the row's entropy)",
            range="1 to n_t",
            misleads="A mean of exponentials: a few queries with nearly uniform attention over thousands of keys can "
            "outweigh all others.",
            kernel=1,
        ),
        of_heads(
            "participation",
            "keys",
            "Effective number of keys by the second moment, which weighs large weights more than entropy does.",
            "mean over heads and queries of 1 / sum over s of p[h,t,s]^2",
            range="1 to n_t",
            misleads="Says how many large weights there are and nothing about the tail, which may hold a third of the "
            "mass; always at most effective_keys.",
            kernel=2,
        ),
    ),
)
