"""Plug a model outside transformers in: an object with ``trace(input_ids) -> Trace`` (guide: docs/protocol.md)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import nn
from transformers import PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.capture.chunk import AttentionChunk, Observer
from indexscope.analysis.capture.model import CapturedModel
from indexscope.analysis.capture.source import Source
from indexscope.analysis.capture.trace import (
    LayerTrace,
    Trace,
    causal_mask,
    check_trace,
    eligible_keys,
    selection_mask,
)
from indexscope.analysis.capture.watching import WatchedModule
from indexscope.analysis.capture.watching.held import alone


@runtime_checkable
class Traceable(Protocol):
    """A model that tells what its attention did.

    ``trace`` may also take ``select`` (False: attend to all of E_t, which gives the dense reference of the quality
    metrics; NotImplementedError where it cannot), ``attention_mask`` ([B, S], 0 for padding) and ``head_scores`` (True:
    tell those of the single indexer heads); each is passed only where its signature names it.
    """

    def trace(self, input_ids: torch.Tensor) -> Trace:
        """One forward over input_ids [B, S], int64."""
        ...


class TracedModel:
    """A `Source` over a model of the protocol.

    The model runs whole sequences, so its own memory decides how long they may be; only what the features make of
    them is bounded by the chunk. Threads run it one after another, since it may keep something of a forward on itself.

    Args:
        model: Has ``trace``, or is a module whose forward takes ids and returns logits, which is then watched
            in eval mode (`WatchedModule`); one with ``trace`` is put into eval mode by its owner.
        vocabulary: Number of token ids; by default the model's ``vocabulary`` or ``vocab_size``, or its config's.
        index_topk: Keys that a query selects at most, None for a dense model; by default the model's ``index_topk``,
            or its config's.
        max_length: Longest sequence that the model takes; by default its ``max_length``, None for no limit.

    Attributes:
        alone: The model's lock; whoever runs it otherwise than by `trace` holds it meanwhile.
        taken: Tokens that the model was found to take, by those that were wanted to look at it.

    Raises:
        IndexscopeError: There is neither ``trace`` nor a forward that can be watched, or the vocabulary is not told.
    """

    def __init__(
        self,
        model: Traceable | nn.Module,
        vocabulary: int | None = None,
        index_topk: int | None = None,
        max_length: int | None = None,
    ) -> None:
        self.family = type(model).__name__
        self.alone = alone(model)
        self.taken: dict[int, int] = {}
        if not isinstance(model, Traceable):
            if not isinstance(model, nn.Module):
                raise IndexscopeError(self.family, "has no method trace", "write one, see docs/protocol.md")
            index_topk, max_length = index_topk or _told(model, "index_topk"), max_length or _told(model, "max_length")
            model = WatchedModule(model)
        self.model: Traceable = model
        told = vocabulary or _told(model, "vocabulary", "vocab_size")
        if told is None:
            raise IndexscopeError(
                self.family,
                "does not tell its vocabulary",
                "give TracedModel(model, vocabulary=...) the number of tokens",
            )
        self.vocabulary = told
        #: Ids below it are those that the model takes, at most.
        self.ids = model.ids if isinstance(model, WatchedModule) else told
        self.index_topk = index_topk or _told(model, "index_topk")
        self.max_length = max_length or _told(model, "max_length")
        accepted = inspect.signature(model.trace).parameters
        self._takes_select = "select" in accepted
        self._takes_mask = "attention_mask" in accepted
        self._takes_heads = "head_scores" in accepted

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are; the CPU for a model without any."""
        parameters = self.model.parameters() if isinstance(self.model, nn.Module) else iter(())
        return next((parameter.device for parameter in parameters), torch.device("cpu"))

    @property
    def has_indexer(self) -> bool:
        """Whether the model selects, which is told by its ``index_topk``."""
        return self.index_topk is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """What cannot be measured of this model, and why."""
        if isinstance(self.model, WatchedModule):
            return self.model.notes
        if self.has_indexer and not self._takes_select:
            return (f"{self.family}.trace takes no `select`, so there is no dense reference (dense_nll is null)",)
        return ()

    def trace(
        self,
        input_ids: torch.Tensor,
        select: bool = True,
        attention_mask: torch.Tensor | None = None,
        refuse_leaks: bool = True,
        head_scores: bool = False,
    ) -> Trace:
        """One checked forward; arguments as in `run` and `check_trace`."""
        options: dict[str, object] = {} if select else {"select": False}
        if head_scores and self._takes_heads:
            options["head_scores"] = True
        if attention_mask is not None and not bool(attention_mask.all()):
            if not self._takes_mask:
                raise IndexscopeError(
                    self.family,
                    "its trace takes no attention_mask",
                    "give sequences without padding, or add the argument",
                )
            options["attention_mask"] = attention_mask
        call: Callable[..., object] = self.model.trace
        batch, length = input_ids.shape
        with self.alone:
            told = call(input_ids, **options)
        return check_trace(told, self.family, batch, length, self.vocabulary, refuse_leaks)

    @torch.inference_mode()
    def run(
        self,
        input_ids: torch.Tensor,
        observer: Observer,
        chunk: int,
        select: bool = True,
        attention_mask: torch.Tensor | None = None,
        head_scores: bool = False,
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Trace sequences of equal length and hand them out in chunks of queries.

        The model has computed its outputs by then, so what the observer returns is ignored. Keys of a selection that
        are outside E_t are left out of S_t; where a mask attends to keys after their query, the chunks say so.

        Args:
            input_ids: [batch, sequence], int64, on the model's device.
            observer: Called for every layer of every chunk.
            chunk: Queries a chunk at most.
            select: False asks for the dense model; nothing is yielded where the model does not offer it.
            attention_mask: [batch, sequence], 1 for tokens and 0 for padding; needs a model whose trace takes it.
            head_scores: Hand on the scores of single indexer heads, where the trace tells them.

        Yields:
            (index of the first query, logits [batch, queries, vocabulary]) of each chunk.

        Raises:
            IndexscopeError: The trace is not what the protocol says, or padding is given to a model that takes none.
        """
        if not select and not self._takes_select:
            return
        try:
            trace = self.trace(input_ids, select, attention_mask, head_scores=head_scores)
        except NotImplementedError:
            if select:
                raise
            return
        if select and not self.has_indexer and any(layer.selected is not None for layer in trace.layers):
            raise IndexscopeError(
                self.family, "selects but does not tell index_topk", "give TracedModel(model, index_topk=...) its k"
            )
        padding = None if attention_mask is None or bool(attention_mask.all()) else attention_mask.bool()
        layers = [
            _Layer(index, layer, input_ids.shape, padding, select, head_scores, trace.ahead)
            for index, layer in enumerate(trace.layers)
        ]
        for start in range(0, input_ids.shape[1], chunk):
            stop = min(start + chunk, input_ids.shape[1])
            for layer in layers:
                observer(layer.chunk(start, stop))
            yield start, trace.logits[:, start:stop]


class _Layer:
    """One layer's trace, cut into chunks; keys end at the chunk's last query."""

    def __init__(
        self,
        index: int,
        trace: LayerTrace,
        shape: torch.Size,
        padding: torch.Tensor | None,
        select: bool,
        heads: bool = False,
        ahead: bool = False,
    ) -> None:
        self.index, self.trace = index, trace
        attention = trace.probabilities if trace.probabilities is not None else trace.query
        assert attention is not None
        self.attention = attention
        self.eligible = eligible_keys(trace, shape[1], attention.device)
        if padding is not None:
            self.eligible = self.eligible & padding[:, None, None, :] & padding[:, None, :, None]
        chosen = trace.selected if select else None
        picked = None if chosen is None else selection_mask(chosen, shape[1])
        self.selected = None if picked is None else picked & self.eligible
        # A mask is what is attended to; of indices that the indexer picked, those in E_t are.
        attended = picked if chosen is not None and chosen.dtype == torch.bool else self.selected
        attended = self.eligible if attended is None else attended
        self.ahead = ahead or bool((attended & ~causal_mask(shape[1], attention.device)).any())
        self.scores = None
        if select and trace.scores is not None:
            outside = ~self.eligible if trace.scores.dim() == 4 else ~self.eligible[:, 0]
            self.scores = trace.scores.float().masked_fill(outside, -torch.inf)
        self.heads = trace.head_scores if heads and self.scores is not None else None
        self.head_weights = None if self.heads is None else trace.head_weights

    def chunk(self, start: int, stop: int) -> AttentionChunk:
        trace, attention = self.trace, self.attention[:, :, start:stop]
        # Stand-ins where query, key or value are not told: zeros, whose output error is 0 / 0, which is null.
        batch, heads, queries = attention.shape[:3]
        nothing = attention.new_zeros((batch, 1, stop, 1))
        return AttentionChunk(
            layer=self.index,
            start=start,
            query=attention.new_zeros((batch, heads, queries, 1)) if trace.query is None else attention,
            key=nothing if trace.key is None else trace.key[:, :, :stop],
            value=nothing if trace.value is None else trace.value[:, :, :stop],
            eligible=self.eligible[:, :, start:stop, :stop],
            selected=None if self.selected is None else self.selected[:, :, start:stop, :stop],
            scores=None if self.scores is None else self.scores[..., start:stop, :stop],
            scaling=1.0 if trace.scale is None else trace.scale,
            probabilities=None if trace.probabilities is None else attention[..., :stop],
            head_scores=None if self.heads is None else self.heads[:, start:stop, :, :stop],
            head_weights=None if self.head_weights is None else self.head_weights[:, start:stop],
            ahead=self.ahead,
        )


def as_source(model: nn.Module | Traceable | Source) -> Source:
    """Whatever a user hands over as a model, as something whose layers can be watched.

    An object with ``trace`` follows the protocol, a model of transformers is captured, any other module is watched, a
    `Source` stays itself.

    Raises:
        IndexscopeError: It is none of these, or cannot be captured.
    """
    if isinstance(model, TracedModel):
        return model
    if isinstance(model, Traceable):
        return TracedModel(model)
    if isinstance(model, PreTrainedModel):
        return _of_transformers(model)
    if isinstance(model, nn.Module):
        return TracedModel(model)
    if callable(getattr(model, "run", None)):
        return model
    raise IndexscopeError(
        type(model).__name__, "is no model that can be watched", "give a transformers model, or see docs/protocol.md"
    )


def _of_transformers(model: PreTrainedModel) -> Source:
    """Captured; a class of the user's own that calls torch and not the attention interface is watched."""
    try:
        return CapturedModel(model)
    except IndexscopeError:
        if type(model).__module__.startswith("transformers."):
            raise
        return TracedModel(model)


def _told(model: object, *names: str) -> int | None:
    """The first of these whole numbers that the model or its config has."""
    for holder in (model, getattr(model, "config", None)):
        for name in names:
            value = getattr(holder, name, None)
            if isinstance(value, int) and value > 0:
                return value
    return None
