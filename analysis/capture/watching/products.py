"""Matrix products that may be the logits of an attention: their factors as query and key, and the factor on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from indexscope.analysis.capture.trace import rounding
from indexscope.analysis.capture.watching.masks import is_square

PRODUCTS = ("matmul", "__matmul__", "bmm", "baddbmm", "einsum")
#: Products, and picks, that wait for their attention; more are other things.
WAITING = 8
ROWS = 64


class Products:
    """The latest products over S queries and S keys.

    Attributes:
        waiting: The name, arguments and type of each, until an attention has been seen.
    """

    def __init__(self, batch: int, length: int) -> None:
        self.batch, self.length = batch, length
        self.waiting: list[tuple[str, Sequence[object], torch.dtype]] = []

    def add(self, name: str, args: Sequence[object], result: torch.Tensor) -> None:
        """Remember a product, if it is one."""
        if result.is_floating_point() and is_square(result, self.length):
            self.waiting = [*self.waiting[1 - WAITING :], (name, args, result.dtype)]

    def factors(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """What may be query and key of the next softmax, the latest first; and of two products that are added up."""
        before: tuple[torch.Tensor, torch.Tensor] | None = None
        for name, given, dtype in reversed(self.waiting):
            found = factors(name, given, self.length)
            both = None if found is None else joined_heads(*found, self.batch)
            if both is None:
                continue
            both = both[0].to(dtype), both[1].to(dtype)  # as autocast has them
            yield both
            if before is not None and before[0].shape[:3] == both[0].shape[:3]:
                yield torch.cat((both[0], before[0]), -1), torch.cat((both[1], before[1]), -1)
            before = both


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
    if len(args) < (3 if func == "baddbmm" else 2):
        return None  # given by name
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
    tolerance = max(map(rounding, (logits.dtype, query.dtype))) * float(found.abs().max())
    return scale if scale > 0 and float((found - scale * product).abs().max()) <= tolerance else None
