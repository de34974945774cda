"""How much attention few keys hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexscope.analysis.features.feature import Feature, FeatureFamily, of_heads

if TYPE_CHECKING:
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


def _top(k: int, kernel: int) -> Feature:
    return of_heads(
        f"top_{k}_mass",
        "share",
        f"Attention on the {k} most attended keys.",
        f"mean over heads and queries of the sum of the {k} largest p[h,t,.] (of all n_t where n_t < {k})",
        misleads=f"Queries with at most {k} keys count as 1, so that short contexts raise it; attention sinks alone "
        "can hold most of it.",
        kernel=kernel,
    )


FAMILY = FeatureFamily(
    order=60,
    title="Concentration",
    about="What the most attended keys of each head hold: the ceiling of what any selection per head could reach.",
    measure=lambda seen: concentration(seen.rows, seen.top_k),
    metrics=(
        of_heads(
            "max_weight",
            "share",
            "Largest attention weight of a query.",
            "mean over heads and queries of max over s of p[h,t,s]",
            range="1/n_t to 1",
            misleads="The first queries have few keys and large weights; a sink that takes nearly everything makes a "
            "head look decided that does nothing.",
            label="largest weight",
            kernel=5,
        ),
        _top(5, kernel=6),
        _top(10, kernel=7),
        _top(20, kernel=8),
        _top(64, kernel=9),
        of_heads(
            "top_k_mass",
            "share",
            "Attention on as many most attended keys as the indexer may select.",
            "mean over heads and queries of the sum of the k largest p[h,t,.]; k = index_topk, or extract.top_k for a "
            "model without an indexer",
            misleads="Chosen for each head by itself, as no joint selection can: an upper bound of recall that is not "
            "reachable. For models without an indexer k is a setting.",
            repeats=("top_5_mass", "top_10_mass", "top_20_mass", "top_64_mass"),
            kernel=10,
        ),
        of_heads(
            "keys_for_95",
            "share",
            "Share of the eligible keys that it takes to hold 95 % of the attention.",
            "mean over heads and queries of (smallest m whose m largest p[h,t,.] sum to >= 0.95) / n_t",
            range="above 0, at most 1",
            misleads="Relative to n_t: a head that needs 20 keys needs all of a short context and a hundredth of a "
            "long one. The last few per cent of mass decide it.",
            label="keys for 95 %",
            kernel=11,
        ),
    ),
)
