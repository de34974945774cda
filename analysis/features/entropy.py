"""Entropy of the attention, and what follows from it (DESIGN, section 4)."""

from __future__ import annotations

import torch

from indexscope.analysis.features.rows import AttentionRows


def entropy(rows: AttentionRows) -> dict[str, torch.Tensor]:
    """H = -sum p ln p in nats, H / ln n_t (NaN for n_t = 1), effective keys e^H and participation 1 / sum p^2.

    With p = exp(x) / Z the entropy is ln Z - sum p x, one weighted sum and no logarithm of a small p.

    Returns:
        Four tensors [batch, heads, queries].
    """
    h = (rows.log_z - torch.einsum("bhqk,bhqk->bhq", rows.p, rows.shifted)).clamp_(min=0.0)
    ln_n = rows.n.log().unsqueeze(1)
    return {
        "attention_entropy": h,
        "normalized_entropy": torch.where(ln_n > 0, h / ln_n, torch.nan),
        "effective_keys": h.exp(),
        "participation": torch.einsum("bhqk,bhqk->bhq", rows.p, rows.p).reciprocal_(),
    }
