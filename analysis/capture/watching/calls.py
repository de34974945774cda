"""Watch torch's attention, softmax, product and topk calls while a module runs, and change none of them unasked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from indexscope.analysis.capture.trace import causal_mask
from indexscope.analysis.capture.watching import masks
from indexscope.analysis.capture.watching.attended import Attention
from indexscope.analysis.capture.watching.picks import Pick, Scoring, is_any, operands, pick_of, same_shape
from indexscope.analysis.capture.watching.products import PRODUCTS, WAITING, Products, factors, scale_of
from indexscope.analysis.capture.watching.stack import Call, common

SDPA = "scaled_dot_product_attention"
SOFTMAX = ("softmax", "special_softmax", "_softmax")


class TooLong(IndexError):
    """Ids beyond the rows of an embedding, which a CUDA device would not survive."""

    def __init__(self, ids: torch.Tensor, rows: int) -> None:
        self.ids, self.rows = ids, rows
        super().__init__(f"id {int(ids.max())} is beyond an embedding of {rows} rows")


@dataclass
class _Sdpa:
    """The arguments of scaled_dot_product_attention, in its order."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    attn_mask: torch.Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False


class WatchCalls(TorchFunctionMode):
    """Remember every attention of a forward.

    Args:
        batch: B.
        length: S.
        selecting: Numbers of attentions that are known to select, whatever their mask looks like this time.
        select: False has those that select attend to all causal keys instead.
        heads: Also remember what went into the scores of a topk.
        stack: The calls of modules that run, as `Stack` keeps them; by default it is not known where a call was made.

    Attributes:
        attentions: In order.
        unused: topk calls over keys that no mask followed from.
        others: Attention calls over anything but the S tokens, which are passed over.
        rows: Rows of the first embedding, which is that of the tokens.
        embedded: The calls of modules that it was in.
    """

    def __init__(
        self,
        batch: int,
        length: int,
        selecting: frozenset[int] = frozenset(),
        select: bool = True,
        heads: bool = False,
        stack: Sequence[Call] = (),
    ) -> None:
        super().__init__()
        self.batch, self.length, self.selecting = batch, length, selecting
        self.select, self.heads, self.stack = select, heads, stack
        self.attentions: list[Attention] = []
        self.unused: list[Pick] = []
        self.others = 0
        self.no_dense = False
        self.rows: int | None = None
        self.embedded: tuple[Call, ...] = ()
        self._shared: torch.Tensor | None = None
        self._products = Products(batch, length)
        self._weights: list[torch.Tensor] = []
        self._scoring = Scoring(length)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if func is functional.multi_head_attention_forward:
            with self:
                return _opened(func)(*args, **kwargs)
        if name == SDPA:
            return self._attend(func, _Sdpa(*args, **kwargs))
        if name in SOFTMAX and self._over_keys(args, kwargs):
            return self._softmax(func, args, kwargs)
        if name == "embedding":
            self._within(*args[:2])
        if name in PRODUCTS and self._weights and any(is_any(part, self._weights) for part in operands(args)):
            args = self._weigh(name, args)
        result = func(*args, **kwargs)
        if name in PRODUCTS:
            self._products.add(name, args, result)
        elif name == "topk":
            self._pick(args, kwargs, result)
        if self.heads:
            self._scoring.look(name, args, kwargs, result)
        if self._weights and args and is_any(args[0], self._weights) and same_shape(result, args[0]):
            self._weights.append(result)
        return result

    def _attend(self, func: Any, given: _Sdpa) -> Any:
        mask = given.attn_mask
        parts = [masks.of_heads(part, self.batch) for part in (given.query, given.key, given.value)]
        causal = causal_mask(self.length, given.query.device)

        def call(attn_mask: torch.Tensor | None, is_causal: bool) -> Any:
            return func(
                given.query, given.key, given.value, attn_mask, given.dropout_p, is_causal, scale=given.scale,
                enable_gqa=given.enable_gqa,
            )  # fmt: skip

        heads_first = given.query.dim() > 3
        shaped = causal[None, None] if mask is None else masks.by_head(mask, self.batch, self.length, heads_first)
        fits = all(part is not None and part.shape[2] == self.length for part in parts)
        if shaped is None or not fits:
            self.others += 1
            return call(mask, given.is_causal)
        bias = None
        if mask is None:
            visible = causal[None, None] if given.is_causal else torch.ones_like(shaped)
        elif mask.dtype == torch.bool:
            visible = shaped
        else:
            far = masks.hidden(shaped)
            visible, bias = ~far, shaped.masked_fill(far, 0.0)
            bias = bias if bool(bias.any()) else None
        if given.is_causal:
            visible = visible & causal
        self._products.waiting.clear()
        seen = self._seen(SDPA, visible)
        seen.query, seen.key, seen.value = parts
        seen.bias = bias
        seen.scale = given.query.shape[-1] ** -0.5 if given.scale is None else float(given.scale)
        if seen.selects and bias is not None:
            seen.query = seen.key = None  # nobody knows what the bias of the keys left out would have been
        if not seen.selects or self.select:
            return call(mask, given.is_causal)
        self.no_dense |= bias is not None
        return call(causal, False)

    def _softmax(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        logits: torch.Tensor = args[0]
        shaped = masks.by_head(logits, self.batch, self.length)
        assert shaped is not None
        seen = self._seen("softmax", ~masks.hidden(shaped))
        for query, key in self._products.factors():
            scale = scale_of(shaped, seen.visible, query, key)
            if scale is not None:
                seen.query, seen.key, seen.scale = query, key, scale
                break
        self._products.waiting.clear()
        causal = causal_mask(self.length, logits.device)
        if seen.selects and not self.select and not torch.equal(seen.visible, causal.expand_as(seen.visible)):
            if seen.query is None or seen.key is None or seen.scale is None:
                self.no_dense = True
            else:
                dense = (seen.query @ seen.key.transpose(-1, -2) * seen.scale).masked_fill(~causal, -torch.inf)
                dense = dense.transpose(1, 2) if masks.queries_first(logits, self.length) else dense
                args = (dense.to(logits.dtype).reshape(logits.shape), *args[1:])
        result = func(*args, **kwargs)
        self._weights = [result]
        seen.weights = masks.by_head(result, self.batch, self.length)
        return result

    def _seen(self, name: str, visible: torch.Tensor) -> Attention:
        """The next attention."""
        # A module may go on to change its mask in place.
        seen = Attention(name, len(self.attentions), masks.one_head(visible).clone(), around=tuple(self.stack))
        self.attentions.append(seen)
        self._decide(seen)
        return seen

    def _decide(self, seen: Attention) -> None:
        """Whether what an attention sees is a selection, and whose."""
        visible, known = seen.visible, seen.number in self.selecting
        causal = causal_mask(self.length, visible.device)
        sparse = bool((causal & ~visible).any())
        seen.pick = next((each for each in reversed(self.unused) if masks.explains(each.mask, visible, causal)), None)
        if seen.pick is None and known and not sparse and self.unused:
            seen.pick = self.unused[-1]  # with what is always visible, a short sequence is whole
        seen.shared = seen.pick is None and self._shared is not None and torch.equal(self._shared, visible)
        if seen.pick is not None:
            self.unused.clear()
            self._shared = visible if sparse else None
        seen.selects = seen.pick is not None or seen.shared or known

    def _weigh(self, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Note the values that the last softmax's weights are for, and what they lost on the way, as the arguments."""
        seen, found = self.attentions[-1], factors(name, args, self.length, weights=True)
        if found is None or found[1].dim() < 3 or found[1].shape[-2] != self.length:
            return args
        used, seen.value = found[0], masks.of_heads(found[1], self.batch)
        seen.around = common(seen.around, self.stack)
        weights, self._weights = self._weights[0], []
        if seen.query is not None:
            seen.weights = None  # they follow from it, and those of all layers are much to keep
        if used is weights:
            return args
        lost = masks.by_head((weights != 0) & (used == 0), self.batch, self.length)
        # Not what a narrower type rounds to 0.
        if lost is None or not bool(((weights > torch.finfo(used.dtype).tiny) & (used == 0)).any()):
            return args
        self.unused += [] if seen.pick is None else [seen.pick]
        seen.visible, seen.late = masks.one_head(seen.visible & ~lost), True
        self._decide(seen)
        if not seen.selects or self.select:
            return args
        dense = weights.to(used.dtype)
        return tuple(
            type(arg)(dense if part is used else part for part in arg)
            if isinstance(arg, list | tuple)
            else dense
            if arg is used
            else arg
            for arg in args
        )

    def _pick(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        scores = args[0] if args else kwargs["input"]
        dim = args[2] if len(args) > 2 else kwargs.get("dim", -1)
        if dim not in (-1, scores.dim() - 1):
            return
        largest = args[3] if len(args) > 3 else kwargs.get("largest", True)
        pick = pick_of(scores if largest else -scores, result[1], self.batch, self.length)
        if pick is not None:
            pick.heads, pick.factors = self._scoring.heads, self._scoring.factors
            pick.width, pick.around = self._scoring.width, tuple(self.stack)
            self.unused = [*self.unused[1 - WAITING :], pick]
        self._scoring = Scoring(self.length)

    def _within(self, one: Any, other: Any = None) -> None:
        rows = rows_within(one, other)
        if self.rows is None and rows is not None:
            self.rows, self.embedded = rows, tuple(self.stack)

    def _over_keys(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        if not args or not isinstance(args[0], torch.Tensor):
            return False
        logits, dim = args[0], args[1] if len(args) > 1 else kwargs.get("dim")
        if dim not in (-1, logits.dim() - 1) or not masks.is_square(logits, self.length):
            return False
        shaped = masks.by_head(logits, self.batch, self.length)
        return logits.is_floating_point() and shaped is not None and shaped.shape[0] == self.batch


def rows_within(ids: Any, table: Any = None) -> int | None:
    """The rows of an embedding, None where there are none to look up.

    Raises:
        TooLong: An id is beyond them.
    """
    if not isinstance(ids, torch.Tensor) or not isinstance(table, torch.Tensor) or not ids.numel():
        return None
    if int(ids.max()) >= table.shape[0]:
        raise TooLong(ids, table.shape[0])
    return table.shape[0]


class WithinTables(TorchFunctionMode):
    """Refuses ids beyond an embedding, and watches nothing else."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") == "embedding":
            rows_within(*args[:2])
        return func(*args, **(kwargs or {}))


def _opened(function: Any) -> Any:
    """The same function of torch, not handing itself over to a mode: so the calls inside are seen."""
    scope = {**function.__globals__, "has_torch_function": lambda _: False}
    opened = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    opened.__kwdefaults__ = function.__kwdefaults__
    return opened
