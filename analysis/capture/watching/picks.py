"""What a ``topk`` over keys picked, and the indexer's scores and heads that went into it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from indexscope.analysis.capture.trace import rounding, selection_mask
from indexscope.analysis.capture.watching.masks import by_head, is_square, queries_first
from indexscope.analysis.capture.watching.products import PRODUCTS, factors
from indexscope.analysis.capture.watching.stack import Call

RELU = ("relu", "relu_", "clamp", "clamp_min")
TIMES = ("mul", "multiply", "__mul__", "__rmul__", "matmul", "__matmul__", "einsum", "bmm")


@dataclass
class Pick:
    """One ``topk`` over the keys of every query.

    Attributes:
        scores: What went in, [B, 1 or G, S, S].
        indices: What came out, [B, 1 or G, S, k].
        heads: What the last ReLU over [B, S, J, S] or [B, J, S, S] before it gave, if that was asked for.
        factors: The tensors that were multiplied with it.
        width: Numbers in a head's query and key, of the product that the ReLU was of.
        around: The calls of modules that it is in, outermost first, where a stack of them was given.
    """

    scores: torch.Tensor
    indices: torch.Tensor
    heads: torch.Tensor | None = None
    factors: list[torch.Tensor] = field(default_factory=list)
    width: int | None = None
    around: tuple[Call, ...] = ()

    @property
    def mask(self) -> torch.Tensor:
        """What was picked, [B, 1 or G, S, S], bool."""
        return selection_mask(self.indices, self.scores.shape[-1])


def pick_of(scores: object, indices: torch.Tensor, batch: int, length: int) -> Pick | None:
    """The call of a ``topk`` as a pick, None where it was not over the keys of every query."""
    if not isinstance(scores, torch.Tensor) or scores.dim() < 3:
        return None
    if queries_first(scores, length):
        scores, indices = scores.transpose(1, 2), indices.transpose(1, 2)
    given = by_head(scores, batch, length) if scores.shape[-2:] == (length, length) else None
    if given is None or given.shape[0] != batch:
        return None
    # A module may go on to write its mask where its scores were.
    return Pick(given.clone() if given.is_floating_point() else given.float(), indices.reshape(*given.shape[:3], -1))


def heads_and_weights(pick: Pick, eligible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """Head scores [B, S, J, S] and weights [B, S, J] that add up to the scores, None where none that were seen do.

    Args:
        pick: With scores of one group.
        eligible: Where the sum is compared, [B or 1, 1, S, S].
    """
    heads, (batch, _, length, _) = pick.heads, pick.scores.shape
    if heads is None or heads.dim() != 4 or heads.shape[0] != batch or heads.shape[-1] != length:
        return None
    if heads.shape[1] != length:
        heads = heads.transpose(1, 2)
    if heads.shape[1] != length:
        return None
    compared = (eligible & pick.scores.isfinite())[:, 0]
    scores = pick.scores[:, 0][compared].double()
    tolerance = rounding(heads.dtype) * float(scores.abs().max()) if scores.numel() else 0.0
    for weights in _candidates(pick.factors, batch, length, heads.shape[2]):
        total = heads.sum(2) if weights is None else torch.einsum("btjs,btj->bts", heads, weights.to(heads.dtype))
        total = total[compared].double()
        square = float((total * total).sum())
        if not square:
            continue
        factor = float((total * scores).sum()) / square
        if float((factor * total - scores).abs().max()) > tolerance:
            continue
        if abs(factor - 1.0) < 1e-6:
            return heads, weights
        if weights is None:
            weights = heads.new_ones(heads.shape[:3])
        return heads, weights * factor
    return None


def _candidates(factors: list[torch.Tensor], batch: int, length: int, number: int) -> list[torch.Tensor | None]:
    """The tensors that may be weights, as [B, S, J]; at last none at all."""
    found: list[torch.Tensor | None] = []
    for factor in factors:
        sizes = tuple(size for size in factor.shape if size != 1)
        if factor.numel() == number:
            found.append(factor.reshape(1, 1, number).expand(batch, length, number))
        elif factor.numel() == batch * length * number:
            if sizes[-2:] == (length, number) or number == 1:
                found.append(factor.reshape(batch, length, number))
            if sizes[-2:] == (number, length):
                found.append(factor.reshape(batch, number, length).transpose(1, 2))
            if length == 1:
                found.append(factor.reshape(batch, length, number))
    return [*found, None]


class Scoring:
    """Watches for what an indexer's scores are made of: a ReLU, and the tensors by which its outcome is multiplied.

    Args:
        length: S.

    Attributes:
        heads: What the last ReLU over keys gave, times any number.
        factors: See `Pick`.
        width: See `Pick`.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.heads: torch.Tensor | None = None
        self.factors: list[torch.Tensor] = []
        self.width: int | None = None
        self._latest: int | None = None

    def look(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Look at one call that has been made."""
        if name in PRODUCTS and isinstance(result, torch.Tensor) and is_square(result, self.length):
            found = factors(name, args, self.length)
            self._latest = None if found is None else found[0].shape[-1]
        if name in RELU and isinstance(result, torch.Tensor):
            lowest = args[1] if len(args) > 1 else kwargs.get("min", 0)
            if result.dim() == 4 and result.shape[-1] == self.length and (name.startswith("relu") or lowest == 0):
                self.heads, self.factors, self.width = result, [], self._latest
        elif self.heads is not None and name in TIMES and is_any(self.heads, operands(args)):
            others = [part for part in operands(args) if part is not self.heads]
            self.factors += others
            if not others and same_shape(result, self.heads):
                self.heads = result


def operands(args: tuple[Any, ...]) -> list[torch.Tensor]:
    """The tensors among arguments, those of a list included."""
    flat = [part for arg in args for part in (arg if isinstance(arg, list | tuple) else [arg])]
    return [part for part in flat if isinstance(part, torch.Tensor)]


def is_any(one: object, others: list[torch.Tensor]) -> bool:
    """Whether an object is itself among tensors."""
    return any(one is other for other in others)


def same_shape(one: object, other: object) -> bool:
    """Whether both are tensors of one shape."""
    return isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and one.shape == other.shape
