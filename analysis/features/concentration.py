"""How much attention few keys hold (DESIGN, section 4)."""

from __future__ import annotations

import torch

from indexscope.analysis.features.rows import AttentionRows

SHARE = 0.95


def concentration(rows: AttentionRows, top_k: int) -> dict[str, torch.Tensor]:
    """Largest weight, mass of the largest 5, 10, 20, 64 and top_k weights, and the share of E_t that holds 95 %.

    Args:
        rows: The chunk.
        top_k: The selection budget k; the row's own n_t where that is smaller.

    Returns:
        Tensors [batch, heads, queries].
    """
    ascending = rows.ascending
    keys = ascending.shape[-1]

    def top(k: int) -> torch.Tensor:
        return ascending[..., max(0, keys - k) :].sum(-1)

    # Keys of the ascending order that may be left out while the rest still hold 95 %.
    spare = (ascending.cumsum(-1) <= 1 - SHARE).sum(-1) - (keys - rows.n.unsqueeze(1))
    return {
        "max_weight": ascending[..., -1],
        "top_5_mass": top(5),
        "top_10_mass": top(10),
        "top_20_mass": top(20),
        "top_64_mass": top(64),
        "top_k_mass": top(top_k),
        "keys_for_95": 1 - spare / rows.n.unsqueeze(1),
    }


def sparsity(rows: AttentionRows, threshold: float) -> dict[str, torch.Tensor]:
    """Share of E_t with p below the threshold; keys outside E_t are in neither count. [batch, heads, queries]."""
    above = (rows.p >= threshold).sum(-1)
    return {"sparsity_ratio": 1 - above / rows.n.unsqueeze(1)}
