"""What a mask, a picked set of keys and the operands of a product say of a layer, in the shapes of a trace."""

from __future__ import annotations

from collections.abc import Sequence

import torch

#: Logits so far below their row's largest get exactly nothing from a softmax; masks of -10000 are that far.
FAR = 9000.0
# What rounding leaves of scale * (query x key), relative to the largest logit.
ROUNDING = {torch.bfloat16: 3e-2, torch.float16: 4e-3}
ROWS = 64


def causal_mask(length: int, device: torch.device) -> torch.Tensor:
    """[S, S], bool, True for keys up to the query."""
    return torch.ones((length, length), dtype=torch.bool, device=device).tril()


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


def factors(
    func: str, args: Sequence[object], length: int, weights: bool = False
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The two factors of a product as [..., S, width] and [..., S, width]: query and key.

    Args:
        func: Name of the function: matmul, bmm, baddbmm or einsum.
        args: Its arguments.
        length: S.
        weights: The product is of weights [..., S, S] and values instead, and these two are given back.
    """
    if func == "einsum":
        return _of_einsum(args, length, weights)
    one, other = args[1:3] if func == "baddbmm" else args[:2]
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor) or min(one.dim(), other.dim()) < 2:
        return None
    return (one, other) if weights else (one, other.transpose(-1, -2))


def _of_einsum(args: Sequence[object], length: int, weights: bool) -> tuple[torch.Tensor, torch.Tensor] | None:
    equation, operands = args[0], args[1:]
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = operands[0]
    if not isinstance(equation, str) or "->" not in equation or "." in equation or len(operands) != 2:
        return None
    terms, result = equation.replace(" ", "").split("->")
    first, second = terms.split(",")
    one, other = operands
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor) or len(result) < 3:
        return None
    summed = [letter for letter in first if letter in second and letter not in result]
    if len(summed) != 1:
        return None
    sizes = dict(zip(first + second, (*one.shape, *other.shape), strict=True))
    if weights:
        width = [letter for letter in second if letter not in first]
        leading = first.replace(_row(first, sizes, length), "").replace(summed[0], "")
        return (one, _arranged(other, second, leading, summed[0], width[0])) if len(width) == 1 else None
    row, column = _row(result, sizes, length), result[-1]
    if row not in first:
        first, second, one, other = second, first, other, one
    if column in first or row in second:
        return None
    leading = result.replace(row, "").replace(column, "")
    query = _arranged(one, first, leading, row, summed[0])
    return query, _arranged(other, second, leading, column, summed[0])


def _row(letters: str, sizes: dict[str, int], length: int) -> str:
    """The letter of the queries: the last but one, or the second in [B, S, heads, S]."""
    return letters[-2] if sizes[letters[-2]] == length or len(letters) < 4 else letters[1]


def _arranged(operand: torch.Tensor, letters: str, leading: str, row: str, width: str) -> torch.Tensor:
    """An operand of einsum as [*leading, row, width], 1 for leading letters that it has not."""
    wanted = leading + row + width
    operand = torch.einsum(f"{letters}->{''.join(letter for letter in wanted if letter in letters)}", operand)
    for place, letter in enumerate(wanted):
        if letter not in letters:
            operand = operand.unsqueeze(place)
    return operand


def joined_heads(query: torch.Tensor, key: torch.Tensor, batch: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Factors [..., S, width] of a product as [B, heads, S, width], with as many heads each."""
    try:
        leading = (query[..., 0, 0] + key[..., 0, 0]).shape
    except RuntimeError:
        return None
    if leading.numel() % batch:
        return None
    parts = [part.expand(*leading, *part.shape[-2:]).reshape(batch, -1, *part.shape[-2:]) for part in (query, key)]
    return parts[0], parts[1]


def scale_of(logits: torch.Tensor, visible: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> float | None:
    """The factor by which logits [B, heads, S, S] are query x key where they are visible, None where they are not."""
    if query.shape[:3] != logits.shape[:3] or key.shape[2] != logits.shape[3]:
        return None
    rows = torch.linspace(0, logits.shape[2] - 1, min(ROWS, logits.shape[2]), device=logits.device).long()
    seen = visible[:, :, rows].expand(*logits.shape[:2], -1, -1)
    found = logits[:, :, rows][seen].double()
    product = (query[:, :, rows].double() @ key.double().transpose(-1, -2))[seen]
    square = float((product * product).sum())
    if not square:
        return None
    scale = float((found * product).sum()) / square
    rounding = max(ROUNDING.get(dtype, 1e-4) for dtype in (logits.dtype, query.dtype))
    tolerance = rounding * float(found.abs().max())
    return scale if scale > 0 and float((found - scale * product).abs().max()) <= tolerance else None
