"""The trace of a layer whose calls were watched, and notes on what could not be seen."""

from __future__ import annotations

from typing import Any

import torch

from indexscope.analysis.capture.trace import LayerTrace, causal_mask
from indexscope.analysis.capture.watching import masks
from indexscope.analysis.capture.watching.attended import Attention
from indexscope.analysis.capture.watching.picks import Pick, heads_and_weights

NO_DENSE = (
    "selects, but its logits before the selection cannot be told (no scaled matmul of query and key gives them, or a "
    "bias is in the same mask), so that the layer and dense_nll are left out; add `trace` with query, key and scale"
)
NO_VALUE = "has weights that go into no matmul with values, so that output_error is null; add `trace` with value"
NO_TOPK = (
    "has a mask that changes with the tokens, but comes from no topk over keys: it is taken as the selection, and "
    "scores are null; add `trace` with scores (or with eligible, where it is no selection)"
)
NO_SCORES = (
    "comes after a topk of what holds NaN or +inf, or has other heads than the mask, so that scores are null; add "
    "`trace` with scores"
)
NO_HEADS = (
    "comes after a topk of what is no sum of a relu over [B, S, J, S] times weights, so that nothing is told of "
    "indexer heads; add `trace` with head_scores and head_weights"
)


def trace_of(seen: Attention, batch: int, length: int, heads: bool) -> tuple[LayerTrace | None, list[str]]:
    """A layer's trace, None where its dense attention is not known.

    Args:
        seen: The watched call.
        batch: B.
        length: S.
        heads: Whether head scores are wanted.

    Returns:
        The trace, and what could not be seen.
    """
    notes: list[str] = []
    causal = causal_mask(length, seen.visible.device)
    parts = _grouped(seen)
    if seen.selects:
        if "query" not in parts:
            if not seen.late:
                return None, [NO_DENSE]
            parts["probabilities"] = _weights(seen)
        selected = seen.visible.expand(batch, -1, -1, -1)
        if seen.pick is not None and selected.shape[1] == 1 == masks.one_head(seen.pick.mask & causal).shape[1]:
            selected = selected.expand(-1, seen.pick.scores.shape[1], -1, -1)  # groups that pick alike
        scores, head_scores, head_weights = _scores(seen.pick, selected.shape[1], causal, heads, notes)
        if seen.pick is None and not seen.shared:
            notes.append(NO_TOPK)
        if selected.shape[1] == 1:
            selected = selected[:, 0]
        trace = LayerTrace(
            **parts, selected=selected, scores=scores, head_scores=head_scores, head_weights=head_weights
        )
    else:
        visible = seen.visible.any(1) & causal
        plain = seen.visible.shape[1] == 1 and torch.equal(visible, seen.visible[:, 0])
        eligible = None if torch.equal(visible, causal.expand_as(visible)) else visible
        if eligible is not None and eligible.shape[0] == 1:
            eligible = eligible[0]
        if not plain or seen.bias is not None or "query" not in parts:
            value = parts.get("value")
            trace = LayerTrace(probabilities=_weights(seen), value=value, eligible=eligible)
        else:
            trace = LayerTrace(**parts, eligible=eligible)
    if trace.value is None:
        notes.append(NO_VALUE)
    return trace, notes


def _grouped(seen: Attention) -> dict[str, Any]:
    """Query, key, scale and value as far as they are known, with as many heads of values as of keys."""
    found: dict[str, Any] = {}
    query, key, value = seen.query, seen.key, seen.value
    number = None if seen.weights is None else seen.weights.shape[1]
    if query is not None and key is not None and seen.scale is not None and query.shape[1] % key.shape[1] == 0:
        found |= {"query": query, "key": key, "scale": seen.scale}
        number = key.shape[1]
    if value is not None and number is not None and number % value.shape[1] == 0:
        found["value"] = value.repeat_interleave(number // value.shape[1], 1)
    return found


def _weights(seen: Attention) -> torch.Tensor:
    """What the call attended with, [B, H, S, S]; nothing in rows that see nothing."""
    weights = seen.weights
    if weights is not None and seen.late:
        return weights.nan_to_num(0.0)  # those before some were set to 0
    if weights is None:
        assert seen.query is not None and seen.key is not None and seen.scale is not None
        key = seen.key.repeat_interleave(seen.query.shape[1] // seen.key.shape[1], 1)
        logits = (seen.query.float() @ key.float().transpose(-1, -2)) * seen.scale
        if seen.bias is not None:
            logits = logits + seen.bias
        weights = logits.masked_fill(~seen.visible, -torch.inf).softmax(-1)
    return weights.masked_fill(~seen.visible, 0.0)


def _scores(
    pick: Pick | None, groups: int, causal: torch.Tensor, heads: bool, notes: list[str]
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """Index scores, and those of single heads, as a trace has them beside a selection of so many groups."""
    if pick is None:
        return None, None, None
    scores, own = pick.scores, pick.scores.shape[1]
    if bool((scores.isnan() | scores.isposinf()).any()) or groups % own:
        notes.append(NO_SCORES)
        return None, None, None
    if groups > 1:
        return scores.repeat_interleave(groups // own, 1), None, None
    if not heads:
        return scores[:, 0], None, None
    found = heads_and_weights(pick, causal[None, None])
    if found is None:
        notes.append(NO_HEADS)
    return scores[:, 0], *(found or (None, None))
