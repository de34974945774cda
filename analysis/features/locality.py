"""Where the attention goes by distance, and to tokens that invite it (DESIGN, section 4)."""

from __future__ import annotations

import torch

from indexscope.analysis.features.rows import AttentionRows


def locality(rows: AttentionRows, window: int, sink_keys: int) -> dict[str, torch.Tensor]:
    """Mass within `window` keys (self included), on the first keys, on the query itself and on its predecessor.

    Returns:
        Masses and the mean distance in tokens, [batch, heads, queries]; NaN where some keys are no tokens.
    """
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
    if not rows.all_tokens:
        return {"induction_mass": torch.full(rows.p.shape[:3], torch.nan, device=rows.p.device)}
    previous = input_ids.roll(1, dims=1)[:, rows.keys]
    match = previous[:, None, :] == input_ids[:, rows.position][:, :, None]
    # s - 1 < t says nothing of causal maps, but keys after the query hold something in others.
    match &= (rows.keys > 0) & (rows.distance >= 0)
    return {"induction_mass": rows.mass(match)}
