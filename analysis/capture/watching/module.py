"""A torch module without ``trace``: its forward is watched, and the trace is made of the calls that it makes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from indexscope import IndexscopeError
from indexscope.analysis.capture.trace import GUIDE, LayerTrace, Trace, causal_mask
from indexscope.analysis.capture.watching.attended import Attention
from indexscope.analysis.capture.watching.calls import TooLong, WatchCalls
from indexscope.analysis.capture.watching.held import alone, evaluated, plain_torch
from indexscope.analysis.capture.watching.layer import trace_of
from indexscope.errors import is_out_of_memory

#: Lengths that are tried to see how a module selects; odd ones, which no width or number of experts happens to be.
LENGTHS = (7, 33, 129, 513)
CALLS = "scaled_dot_product_attention, or of softmax over [B, H, S, S] before a matmul with values,"
NO_TOPK = "its topk over keys is followed by no mask that keeps what it picked; add `trace` with selected"
OTHER = "attends from or to something other than the S tokens, and is passed over"
_TRACE = f"add the method `trace` ({GUIDE})"
_REMEDY = f"give a module whose forward takes input_ids and returns logits, or {_TRACE}"


class WatchedModule(nn.Module):
    """A model of the protocol around a module whose forward takes ids [B, S] and returns logits.

    Args:
        module: Any module; nothing else is asked of it. It runs in eval mode, and is left in its own.

    Attributes:
        vocabulary: Width of its logits.
        ids: How many of them its embedding takes, at most.
        index_topk: Most keys that a topk picked, or a query attended to, in sequences of up to 513 tokens; None where
            no layer selects.
        max_length: Longest sequence, where its embedding of positions told; else None.
        notes: What cannot be seen, by the call that hides it, and what to add.

    Raises:
        IndexscopeError: It cannot be called with ids, returns no logits, or no attention is seen.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.name = type(module).__name__
        self._alone = alone(module)
        self.vocabulary = self.ids = 0
        self.index_topk: int | None = None
        self.max_length: int | None = None
        self.notes: tuple[str, ...] = ()
        self._selecting: frozenset[int] = frozenset()
        self._learn()

    def trace(self, input_ids: torch.Tensor, select: bool = True, head_scores: bool = False) -> Trace:
        """One watched forward, see `indexscope.analysis.capture.protocol.Traceable`.

        Raises:
            IndexscopeError: The forward fails, or no attention is seen.
            NotImplementedError: ``select`` is False, and what a layer selects cannot be undone.
        """
        logits, watch = self._run(input_ids, select, head_scores)
        if watch.no_dense:
            raise NotImplementedError(f"{self.name}: has no dense reference")
        found = self._layers(watch, head_scores)
        causal = causal_mask(watch.length, logits.device)
        ahead = any(layer is None and bool((seen.visible & ~causal).any()) for seen, layer, _ in found)
        return Trace(logits, [layer for _, layer, _ in found if layer is not None], ahead)

    def _run(
        self, input_ids: torch.Tensor, select: bool = True, heads: bool = False
    ) -> tuple[torch.Tensor, WatchCalls]:
        batch, length = input_ids.shape
        watch = WatchCalls(batch, length, self._selecting, select, heads)
        try:
            with self._alone, torch.no_grad(), plain_torch, evaluated(self.module), watch:
                result = call(self.module, input_ids)
        except Exception as error:  # whatever a stranger's forward raises
            if is_out_of_memory(error) or isinstance(error, IndexscopeError):
                raise
            if isinstance(error, TooLong) and not torch.equal(error.ids, input_ids):
                self.max_length = error.rows  # positions, not tokens, are beyond it
            reason = f"its forward fails on ids of shape {list(input_ids.shape)} ({type(error).__name__}: {error})"
            raise IndexscopeError(self.name, reason, _REMEDY) from error
        logits = logits_of(result)
        fits = logits is not None and logits.shape[:-1] == input_ids.shape and logits.shape[-1] > 0
        if logits is None or not fits or not logits.is_floating_point():
            told = f"{type(result).__name__}" if logits is None else f"a tensor {list(logits.shape)}"
            raise IndexscopeError(self.name, f"its forward returns {told}, no logits [B, S, vocabulary]", _REMEDY)
        return logits, watch

    def _layers(self, watch: WatchCalls, heads: bool) -> list[tuple[Attention, LayerTrace | None, list[str]]]:
        """Every attention, its trace (None where its dense attention is not known), and its notes."""
        found = [(each, *trace_of(each, watch.batch, watch.length, heads)) for each in attentions_of(watch)]
        if not any(layer is not None for _, layer, _ in found):
            reason = f"its forward makes no call of {CALLS} that could be seen"
            if watch.others:
                reason = f"its scaled_dot_product_attention {OTHER}"
            if found:
                reason = f"{found[0][0].call} (attention {found[0][0].number}) {found[0][2][0]}"
            raise IndexscopeError(self.name, reason, _TRACE)
        return found

    def _learn(self) -> None:
        """Run ever longer sequences, two at once, and learn the vocabulary, which attentions select, and how many keys.

        A mask that is not the same for both sequences is a selection, as is one that a topk gave.
        """
        widths: dict[int, int] = {}
        watch: WatchCalls | None = None
        failed: IndexscopeError | None = None
        waiting = list(LENGTHS)
        while waiting:
            length = waiting.pop(0)
            try:
                watch = self._look(length)
            except IndexscopeError as error:
                failed = failed or error
                if watch is not None:  # longer than its positions; one that is too short for its k comes before
                    waiting = [] if self.max_length in (None, length, watch.length) else [self.max_length]
                continue
            except Exception as error:
                if watch is None or not is_out_of_memory(error):
                    raise
                break
            found = [each for each in attentions_of(watch) if each.selects or _moves(each.visible)]
            self._selecting |= {each.number for each in found}
            if found:
                widths[length] = max(_width(each) for each in found)
        if watch is None:
            assert failed is not None
            raise failed
        self.notes = self._told(watch)
        if self._selecting:
            self.index_topk = max(widths.values())
            grows = [min(length, self.index_topk) > width for length, width in widths.items()]
            if any(grows) or self.index_topk >= max(widths):
                told = f"index_topk is {self.index_topk}, of sequences of {max(widths)} tokens"
                self.notes += (f"{self.name}: its k grows with the length, or is beyond {max(widths)}; {told}",)

    def _look(self, length: int) -> WatchCalls:
        """A forward over two sequences of random ids."""
        device = next((parameter.device for parameter in self.parameters()), torch.device("cpu"))
        if not self.vocabulary:
            logits, watch = self._run(torch.zeros((2, length), dtype=torch.int64, device=device))
            self.vocabulary, self.ids = logits.shape[-1], min(logits.shape[-1], watch.rows or logits.shape[-1])
        return self._run(random_ids(self.ids, 2, length).to(device), heads=True)[1]

    def _told(self, watch: WatchCalls) -> tuple[str, ...]:
        """What could not be seen, one line for all attentions of which it is true."""
        lines: dict[str, list[str]] = {}
        for seen, _, notes in self._layers(watch, heads=True):
            for line in notes:
                lines.setdefault(f"{seen.call} ({{}}) {line}", []).append(str(seen.number))
        told = [line.format(f"attention {', '.join(numbers)}") for line, numbers in lines.items()]
        if watch.unused:
            told.append(NO_TOPK)
        if watch.others:
            told.append(f"scaled_dot_product_attention ({watch.others} of its calls) {OTHER}")
        return tuple(f"{self.name}: {line}" for line in told)


def random_ids(below: int, batch: int, length: int) -> torch.Tensor:
    """Ids [batch, length] that are the same each time, from 1 on: 0 is often padding."""
    random = torch.Generator().manual_seed(length)
    return torch.randint(min(1, below - 1), below, (batch, length), generator=random)


def call(module: nn.Module, input_ids: torch.Tensor) -> Any:
    """What a module's own forward makes of ids."""
    return module(input_ids=input_ids) if takes_input_ids(module) else module(input_ids)


def takes_input_ids(module: nn.Module) -> bool:
    """Whether the forward has an argument of that name."""
    try:
        return "input_ids" in inspect.signature(module.forward).parameters
    except (TypeError, ValueError):
        return False


def attentions_of(watch: WatchCalls) -> list[Attention]:
    """All but softmaxes whose weights weigh nothing, where others do: routers and the like."""
    weighing = [each for each in watch.attentions if each.value is not None]
    return weighing or watch.attentions


def _moves(visible: torch.Tensor) -> bool:
    return visible.shape[0] > 1 and not torch.equal(visible[0], visible[1])


def _width(seen: Attention) -> int:
    return int(seen.visible.sum(-1).max()) if seen.pick is None else seen.pick.indices.shape[-1]


def logits_of(result: Any) -> torch.Tensor | None:
    """Alone, first in a tuple, or under ``logits``."""
    if isinstance(result, Mapping):
        result = result.get("logits")
    elif isinstance(result, tuple | list) and not hasattr(result, "logits"):
        result = result[0] if result else None
    elif not isinstance(result, torch.Tensor):
        result = getattr(result, "logits", None)
    if isinstance(result, tuple | list):
        return None
    result = getattr(result, "logits", result)
    return result if isinstance(result, torch.Tensor) and result.dim() == 3 else None
