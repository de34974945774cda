"""What masks, logits and picked keys of any layout leave visible, as [B, heads, S, S]."""

from __future__ import annotations

import torch

#: Logits so far below their row's largest get exactly nothing from a softmax; masks of -10000 are that far.
FAR = 9000.0


def hidden(logits: torch.Tensor) -> torch.Tensor:
    """What a softmax over the last dimension gives nothing, as bool.

    >>> hidden(torch.tensor([[0.0, -1e9, -float("inf")], [-1e9, -1e9, -1e9]])).tolist()
    [[False, True, True], [False, False, False]]
    """
    least = (logits.amax(-1, keepdim=True) - FAR).clamp(min=torch.finfo(logits.dtype).min)  # above -inf everywhere
    return logits < least


def queries_first(given: torch.Tensor, length: int) -> bool:
    """Whether it is [B, S, heads, S] rather than [B, heads, S, S]."""
    return given.dim() == 4 and given.shape[1] == given.shape[3] == length != given.shape[2]


def is_square(given: torch.Tensor, length: int) -> bool:
    """Whether it has a number for every query and key: [..., S, S] or [B, S, heads, S]."""
    return (given.dim() > 2 and given.shape[-2:] == (length, length)) or queries_first(given, length)


def by_head(given: torch.Tensor, batch: int, length: int, heads_first: bool = False) -> torch.Tensor | None:
    """Anything [..., S or 1, S] or [B, S, heads, S] as [B or 1, heads or 1, S, S]; None where it is of another shape.

    Args:
        given: With no dimension before the last two, with one (B, heads, or both of them), or with more, B first.
        batch: B.
        length: S.
        heads_first: A single dimension before the last two is heads, as where it is broadcast to four.
    """
    if queries_first(given, length):
        given = given.transpose(1, 2)
    if given.dim() < 2 or given.shape[-1] != length or given.shape[-2] not in (1, length):
        return None
    given = (
        given.expand(*given.shape[:-1], length)
        if given.shape[-2] == length
        else given.expand(*given.shape[:-2], length, length)
    )
    leading = given.shape[:-2]
    if len(leading) < 2:
        number = leading[0] if leading else 1
        if number == 1 or heads_first:
            return given.reshape(1, number, length, length)
        return given.reshape(batch, -1, length, length) if number % batch == 0 else None
    return given.reshape(leading[0], -1, length, length) if leading[0] in (1, batch) else None


def of_heads(part: torch.Tensor, batch: int) -> torch.Tensor | None:
    """A query, key or value [..., S, width] as [B, heads, S, width]; None where it is of another shape."""
    folded = part.dim() == 3 and part.shape[0] % batch == 0
    if not folded and (part.dim() < 4 or part.shape[0] not in (1, batch)):
        return None
    whole = part if folded else part.expand(batch, *part.shape[1:])
    return whole.reshape(batch, -1, *part.shape[-2:])


def one_head(visible: torch.Tensor) -> torch.Tensor:
    """A mask [B or 1, heads, S, S] without its heads where they are all the same."""
    first = visible[:, :1]
    return first if visible.shape[1] == 1 or torch.equal(visible, first.expand_as(visible)) else visible


def explains(picked: torch.Tensor, visible: torch.Tensor, causal: torch.Tensor) -> bool:
    """Whether a mask may have come from a top-k: all of its causal picks are visible, or nothing else is.

    Args:
        picked: [B, 1 or G, S, S], future keys and all.
        visible: [B or 1, 1 or heads, S, S].
        causal: [S, S].
    """
    groups, heads = picked.shape[1], visible.shape[1]
    if groups not in (1, heads):
        picked = picked.repeat_interleave(heads // groups, 1) if heads % groups == 0 else picked.any(1, keepdim=True)
    dropped = bool((causal & ~picked).any())
    if dropped and not bool((causal & ~visible).any()):
        return False  # it leaves nothing out, so that the picks went elsewhere
    return not bool((picked & causal & ~visible).any()) or not bool((visible & ~picked).any())
