"""Index scores as less precise arithmetic would have them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from indexscope.analysis.closeup.order import earliest

FP8_LARGEST = torch.finfo(torch.float8_e4m3fn).max
INT8_LARGEST = 127.0
# Head scores and weights whose sum misses I by more than this share of the row's largest score are not its parts.
PARTS = 1e-3

Round = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None], torch.Tensor]
"""From I [Q, K], keys up for selection [Q, K], head scores [Q, J, K] and head weights [Q, J] to rounded scores."""


def as_bfloat16(
    scores: torch.Tensor, up: torch.Tensor, heads: torch.Tensor | None, weights: torch.Tensor | None
) -> torch.Tensor:
    """I rounded to bfloat16 (8 significant bits)."""
    return scores.to(torch.bfloat16).float()


def as_float16(
    scores: torch.Tensor, up: torch.Tensor, heads: torch.Tensor | None, weights: torch.Tensor | None
) -> torch.Tensor:
    """I rounded to float16 (11 significant bits); beyond 65,504 scores become infinite, and so equal."""
    return scores.to(torch.float16).float()


def as_int8(
    scores: torch.Tensor, up: torch.Tensor, heads: torch.Tensor | None, weights: torch.Tensor | None
) -> torch.Tensor:
    """I as whole multiples of max |I| / 127, the maximum over a query's keys (symmetric absmax quantisation)."""
    step = _step(scores, up, INT8_LARGEST)
    return torch.where(up, (scores / step).round() * step, scores)


def as_fp8(
    scores: torch.Tensor, up: torch.Tensor, heads: torch.Tensor | None, weights: torch.Tensor | None
) -> torch.Tensor:
    """I whose head scores ReLU(q[t, j] · k[s]) are rounded to float8_e4m3fn (4 significant bits).

    Every query and head has a scale of its own, so that its largest score becomes 448. What rounding changes of the
    head scores is added to I with the heads' weights, so that exact head scores give back I bit by bit. Where there
    are none, or they are no parts of I, I itself is rounded in the same way.

    Deployments round q and k *before* the product (one scale a token), which is not simulated as q and k are not at
    hand: their error is relative to the norms and also hits small scores, so expect more change than measured here.
    """
    if heads is None or weights is None:
        return _fp8(scores, up)
    inside = up.unsqueeze(1)
    exact = heads.float().masked_fill(~inside, 0.0)
    weight = weights.float().unsqueeze(-1)
    own = torch.where(up, scores, 0.0)
    missed = ((exact * weight).sum(1) - own).abs().amax(-1, keepdim=True)
    changed = scores + ((_fp8(exact, inside) - exact) * weight).sum(1)
    return torch.where(missed <= PARTS * own.abs().amax(-1, keepdim=True), changed, _fp8(scores, up))


TIES = "ties"
"""The variant that breaks ties the other way and rounds nothing."""
ROUNDINGS: dict[str, Round] = {"bfloat16": as_bfloat16, "float16": as_float16, "fp8": as_fp8, "int8": as_int8}


def _fp8(values: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    step = _step(values, up, FP8_LARGEST)
    scaled = (values / step).clamp(-FP8_LARGEST, FP8_LARGEST)
    return torch.where(up, scaled.to(torch.float8_e4m3fn).float() * step, values)


def _step(values: torch.Tensor, up: torch.Tensor, largest: float) -> torch.Tensor:
    """What one unit of a row stands for, [..., 1]; 1 where all is zero."""
    highest = values.abs().masked_fill(~up, 0.0).amax(-1, keepdim=True)
    return torch.where(highest > 0, highest / largest, 1.0)


def latest(up: torch.Tensor) -> torch.Tensor:
    """The priority that breaks ties to the latest key, shaped like a mask [Q, K]."""
    return earliest(up).flip(-1)
