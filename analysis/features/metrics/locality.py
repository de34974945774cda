"""Where the attention goes by distance and place, and to tokens that invite it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indexscope.analysis.features.feature import FeatureFamily, of_heads
from indexscope.analysis.metrics.metric import Array, Derived, Metric
from indexscope.analysis.statistics.resampling import ratio

if TYPE_CHECKING:
    import torch

    from indexscope.analysis.features.rows import AttentionRows
    from indexscope.analysis.features.seen import Seen

# Masses are sums of float32 weights.
ROUNDING = 1e-6


def locality(rows: AttentionRows, window: int, sink_keys: int) -> dict[str, torch.Tensor]:
    """Mass within `window` keys (self included), on the first keys, on the query itself and on its predecessor.

    Returns:
        Masses and the mean distance in tokens, [batch, heads, queries]; NaN where some keys are no tokens.
    """
    import torch

    # Where maps are causal, keys after the query hold nothing; where they are not, distances count both ways.
    p, distance = rows.p, rows.distance.abs()
    if not rows.all_tokens:
        undefined = torch.full(p.shape[:3], torch.nan, device=p.device)
        names = ("local_mass", "sink_mass", "self_mass", "previous_mass", "mean_distance")
        return dict.fromkeys(names, undefined)
    return {
        "local_mass": rows.mass(distance < window),
        "sink_mass": p[..., rows.keys < sink_keys].sum(-1),
        "self_mass": _at_distance(rows, 0),
        "previous_mass": _at_distance(rows, 1),
        "mean_distance": torch.einsum("bhqk,qk->bhq", p, distance.to(p.dtype)),
    }


def _at_distance(rows: AttentionRows, distance: int) -> torch.Tensor:
    import torch

    if not rows.in_order:
        return rows.mass(rows.distance == distance)
    key = rows.position - distance - rows.keys[0]
    index = key.clamp(min=0).view(1, 1, -1, 1).expand(*rows.p.shape[:3], 1)
    return torch.where(key >= 0, rows.p.gather(-1, index).squeeze(-1), 0.0)


def induction(rows: AttentionRows, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mass on keys that follow an earlier copy of the query's token: token[s - 1] = token[t], s - 1 < t.

    Source: Olsson et al. 2022, In-context Learning and Induction Heads.

    Args:
        rows: The chunk.
        input_ids: The whole sequences, [batch, sequence].

    Returns:
        [batch, heads, queries]; NaN where some keys are no tokens.
    """
    import torch

    if not rows.all_tokens:
        return {"induction_mass": torch.full(rows.p.shape[:3], torch.nan, device=rows.p.device)}
    return {"induction_mass": rows.mass(follows_copy(rows, input_ids))}


def follows_copy(rows: AttentionRows, input_ids: torch.Tensor) -> torch.Tensor:
    """Which keys follow an earlier copy of the query's token, [batch, queries, keys]; all keys must be tokens."""
    previous = input_ids.roll(1, dims=1)[:, rows.keys]
    match = previous[:, None, :] == input_ids[:, rows.position][:, :, None]
    # s - 1 < t says nothing of causal maps, but keys after the query hold something in others.
    match &= (rows.keys > 0) & (rows.distance >= 0)
    return match


def odds(share: Array) -> Array:
    """Odds of a share, share / (1 - share); NaN where nothing but rounding lies outside the share."""
    outside = 1.0 - np.asarray(share)
    return ratio(share, np.where(outside > ROUNDING, outside, 0.0))


def _measure(seen: Seen) -> dict[str, torch.Tensor]:
    near = locality(seen.rows, seen.settings.local_window, seen.settings.sink_keys)
    return near | induction(seen.rows, seen.input_ids)


FAMILY = FeatureFamily(
    order=70,
    title="Locality",
    about="Dense attention by the place of the key; w is extract.local_window, 32 unless set otherwise.",
    measure=_measure,
    metrics=(
        of_heads(
            "local_mass",
            "share",
            "Attention on the nearest keys, the query's own included.",
            "mean over heads and queries of sum over s with 0 <= t - s < w of p[h,t,s]",
            misleads="Short contexts lie within the window: up to w keys it is 1 whatever the head does. Compare by "
            "bucket.",
            kernel=12,
        ),
        Metric(
            "local_global_ratio",
            "ratio",
            "neither",
            "Attention within the window relative to attention beyond it.",
            "sum of local mass / sum of (1 - local mass) over heads and queries: a ratio of sums",
            Derived("attention", ("local_mass",), odds),
            range="≥ 0",
            misleads="Without bound as nearly all attention is local, so that a single very local layer rules the "
            "mean; null if nothing lies beyond the window.",
        ),
        of_heads(
            "sink_mass",
            "share",
            "Attention on the first keys of the sequence.",
            "mean over heads and queries of sum over s < 4 (extract.sink_keys) of p[h,t,s]",
            source="Xiao et al. 2023, Efficient Streaming Language Models with Attention Sinks",
            misleads="Early queries have little else to attend to than the first keys, so that uniform attention "
            "gives min(1, 4/n_t); which tokens act as sinks may not be the first ones (see vertical "
            "patterns).",
            kernel=13,
        ),
        of_heads(
            "self_mass",
            "share",
            "Attention on the query's own token.",
            "mean over heads and queries of p[h,t,t]",
            misleads="The first query has only itself, and short contexts raise it; uniform attention gives 1/n_t.",
            kernel=14,
        ),
        of_heads(
            "previous_mass",
            "share",
            "Attention on the token just before the query.",
            "mean over heads and queries of p[h,t,t-1], 0 for t = 0",
            misleads="A mean over heads: one previous-token head among sixteen gives 0.06. Uniform attention gives "
            "1/n_t, so short contexts raise it.",
            kernel=15,
        ),
        of_heads(
            "mean_distance",
            "tokens",
            "How far back the attention reaches on average.",
            "mean over heads and queries of sum over s of p[h,t,s] (t - s)",
            range="0 to n_t - 1",
            misleads="A mixture of sink and local attention has a mean distance at which there is no attention at "
            "all; it grows with the context.",
            kernel=16,
        ),
        of_heads(
            "induction_mass",
            "share",
            "Attention on tokens that followed an earlier copy of the query's token.",
            "mean over heads and queries of sum over s <= t with x[s-1] = x[t] of p[h,t,s]",
            source="Olsson et al. 2022, In-context Learning and Induction Heads",
            misleads="Text that repeats itself has many such keys, so that uniform attention already reaches a large "
            "value; models compare only on the same data.",
            kernel=17,
        ),
    ),
)
