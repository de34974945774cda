"""How much of the attention is next to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexscope.analysis.features.feature import FeatureFamily, of_heads

if TYPE_CHECKING:
    import torch

    from indexscope.analysis.features.rows import AttentionRows


def sparsity(rows: AttentionRows, threshold: float) -> dict[str, torch.Tensor]:
    """Share of E_t with p below the threshold; keys outside E_t are in neither count. [batch, heads, queries]."""
    above = (rows.p >= threshold).sum(-1)
    return {"sparsity_ratio": 1 - above / rows.n.unsqueeze(1)}


FAMILY = FeatureFamily(
    order=50,
    title="Sparsity",
    about="Future and padded keys are never in the denominator; tau is extract.sparsity_threshold, by default 0.01.",
    measure=lambda seen: sparsity(seen.rows, seen.settings.sparsity_threshold),
    metrics=(
        of_heads(
            "sparsity_ratio",
            "share",
            "Share of eligible keys with a negligible attention weight.",
            "mean over heads and queries of |{s in E_t : p[h,t,s] < tau}| / n_t",
            misleads="With n_t above 1/tau keys even uniform attention falls below tau everywhere and has ratio 1, so "
            "that long contexts look sparse by themselves; read it by bucket, beside entropy.",
            kernel=4,
        ),
    ),
)
