"""Chunked prefill of a causal language model with every layer's attention handed to an observer.

Feeding a sequence in chunks through the model's own cache bounds everything by chunk x sequence length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.capture.chunk import AttentionChunk, Observer
from indexscope.analysis.capture.dispatched import follow, home
from indexscope.analysis.capture.families import family_of
from indexscope.analysis.capture.indexer import Seen, WatchTopk, arguments_of, index_topk, indexers
from indexscope.analysis.capture.interface import ADDITIVE, NAME, Running, layer_of, running
from indexscope.analysis.capture.observers import capture_sparse
from indexscope.analysis.capture.positions import keep_positions
from indexscope.analysis.capture.selecting import Carried, selectors
from indexscope.analysis.capture.whole import continues, in_chunks
from indexscope.analysis.rope import Scaling, reach, scalings
from indexscope.heap import give_back

WATCHED = "_indexscope_watched"
#: Masks that one forward may make, and devices that it may copy them to.
KINDS_OF_MASKS, DEVICES = 4, 16
#: Tokens of a sequence after which freed memory is given back: a cache that grows leaves ever larger holes.
GIVEN_BACK = 2048


def most_selected(model: nn.Module) -> int | None:
    """Keys that a query of any layer selects at most, as `index_topk` counts them; None where nothing selects."""
    found = [index_topk(indexer) for indexer in indexers(model)]
    found += [selector.topk for selector in selectors(model)]
    return max((k for k in found if k is not None), default=None)


@contextmanager
def own_attention(model: PreTrainedModel) -> Iterator[None]:
    """Give the model its own attention back (sdpa, else eager) within the block, untouched by the capture.

    Where a selector is laid over it, the attention stays the capture's, with nobody looking on: it is what selects.
    Forwards are then of whole sequences, without padding and without a cache.
    """
    if selectors(model):
        with _selecting(model):
            yield
        return
    before, carried = model.config._attn_implementation, running.carried
    model.set_attn_implementation("sdpa" if getattr(model, "_supports_sdpa", False) else "eager")
    running.carried = Carried()
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        running.carried = carried


@contextmanager
def _selecting(model: PreTrainedModel) -> Iterator[None]:
    """A capture that only attends, for whoever calls the model itself."""
    captured = CapturedModel(model)
    before = dict(vars(running))
    # Forward after forward makes masks, of which only its own count; no model makes more kinds.
    masks, copies = deque[Any](maxlen=KINDS_OF_MASKS), deque[Any](maxlen=KINDS_OF_MASKS * DEVICES)
    vars(running).update(captured.capture(capture_sparse), masks=masks, copies=copies)
    try:
        yield
    finally:
        vars(running).clear()
        vars(running).update(before)


@dataclass(frozen=True)
class Prefill:
    """Sequences of equal length that are fed to a model, piece by piece.

    Attributes:
        input_ids: [batch, sequence].
        observer: Called for every layer of every piece.
        pieces: First and last + 1 position of each piece.
        wanted: Queries of a chunk of logits at most.
        select: Whether the selection is wanted.
        head_scores: Whether head scores are wanted.
        padding: True for tokens, [batch, sequence]; None without padding.
        carried: What layers hand on beside what the model's own code does, through all pieces.
    """

    input_ids: torch.Tensor
    observer: Observer
    pieces: tuple[tuple[int, int], ...]
    wanted: int
    select: bool = True
    head_scores: bool = False
    padding: torch.Tensor | None = None
    carried: Carried = field(default_factory=Carried)

    def tokens(self, end: int) -> torch.Tensor | None:
        """True for tokens among the first ``end`` positions; None without padding."""
        return None if self.padding is None else self.padding[:, :end]

    def arguments(self, start: int, end: int) -> dict[str, Any]:
        """What the model is called with for one piece, but for its cache."""
        here = self.tokens(end)
        return {"input_ids": self.input_ids[:, start:end], "attention_mask": None if here is None else here.long()}

    def cut(self, start: int, logits: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Logits of a piece in chunks as they were asked for, each with the index of its first query."""
        for first in range(0, logits.shape[1], self.wanted):
            yield start + first, logits[:, first : first + self.wanted]


class CapturedModel:
    """A causal language model of transformers whose layers can be watched: a `Source`.

    Several threads may run captures of one model at once. Its layers may be on several devices, as accelerate's
    ``device_map`` puts them: each chunk is on its layer's.

    Args:
        model: Any causal LM of transformers that follows the attention interface.

    Raises:
        IndexscopeError: The architecture does not let its attention function be replaced.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.captured = family_of(model)
        config = model.config.get_text_config(decoder=True)
        additive = self.captured.additive
        if additive is None:
            # Without sdpa, a model's code may do with its mask what can only be done with a float.
            additive = not getattr(model, "_supports_sdpa", False)
        name = ADDITIVE if additive else NAME
        if config._attn_implementation != name:
            try:
                model.set_attn_implementation(name)
            except (ValueError, KeyError, ImportError) as error:
                raise IndexscopeError(
                    self.family, f"its attention cannot be captured ({error})", "use another model"
                ) from None
        if config._attn_implementation != name:
            raise IndexscopeError(
                self.family, "its architecture does not follow transformers' attention interface", "use another model"
            )
        follow(model)
        self._continues = continues(model)
        keep_positions(model, lambda: running.length)
        self._paths = {module: path for path, module in model.named_modules()}
        for indexer in indexers(model):
            if WATCHED not in indexer.__dict__:
                _watch(indexer, self._paths)

    @property
    def device(self) -> torch.device:
        """Where the model takes ids and gives logits."""
        return home(self.model)

    @property
    def has_indexer(self) -> bool:
        """Whether any layer selects."""
        return bool(indexers(self.model) or selectors(self.model))

    @property
    def index_topk(self) -> int | None:
        """Keys that a query selects at most, forced ones not counted (deepseek_v4: compressed entries)."""
        return most_selected(self.model)

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return int(self.model.config.get_text_config(decoder=True).vocab_size)

    @property
    def max_length(self) -> int | None:
        """Longest sequence that the model's positions allow; None where nothing limits it."""
        return reach(self._rope, self.trained_length)

    @property
    def trained_length(self) -> int | None:
        """Longest sequence that its configuration names, which dynamic scaling goes beyond."""
        longest = getattr(self.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        return int(longest) if longest else None

    @property
    def _rope(self) -> Mapping[str, Any] | None:
        return getattr(self.model.config.get_text_config(decoder=True), "rope_parameters", None)

    @property
    def scalings(self) -> tuple[Scaling, ...]:
        """How its positions depend on the length of the whole sequence, where they do."""
        return scalings(self._rope, self.trained_length)

    @property
    def family(self) -> str:
        """The architecture, as transformers calls it."""
        return str(self.model.config.model_type)

    @cached_property
    def attentions(self) -> dict[int, nn.Module]:
        """The module of each layer whose attention map is seen, found by feeding two tokens."""
        reached: dict[int, nn.Module] = {}

        def observe(chunk: AttentionChunk) -> torch.Tensor:
            reached[chunk.layer] = running.layers[chunk.layer]
            return capture_sparse(chunk)

        for _ in self.run(torch.zeros((1, 2), dtype=torch.int64, device=self.device), observe, 2):
            pass
        return reached

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Which layers have no attention map, and whether the sequence cannot be fed in chunks."""
        config, reached = self.model.config.get_text_config(decoder=True), self.attentions
        kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or []
        notes = []
        for layer in range(config.num_hidden_layers):
            if layer not in reached:
                kind = str(kinds[layer]).replace("_", " ") if layer < len(kinds) else "no softmax attention"
                notes.append(f"layer {layer} ({kind}) has no attention map and is skipped")
        if not self._continues:
            notes.append("its recurrent layers cannot go on from chunk to chunk, so each sequence runs at once")
        return tuple(notes)

    def capture(self, observer: Observer, select: bool = True, head_scores: bool = False) -> dict[str, Any]:
        """What `Running` holds at the start of a sequence without padding."""
        return {
            "observer": observer, "family": self.captured, "paths": self._paths, "select": select,
            "head_scores": head_scores, "start": 0, "length": None, "padding": None, "masks": [], "copies": [],
            "seen": {}, "layers": {}, "carried": Carried(),
        }  # fmt: skip

    def prefill(
        self,
        input_ids: torch.Tensor,
        observer: Observer,
        chunk: int,
        select: bool = True,
        attention_mask: torch.Tensor | None = None,
        head_scores: bool = False,
    ) -> Prefill:
        """What `run` feeds: the pieces of these sequences, and who looks at them."""
        padding = _padding(attention_mask)
        length, wanted = input_ids.shape[1], chunk
        if not self._continues:
            observer, chunk = in_chunks(observer, chunk), length
        if padding is not None and self.captured.uniform_blanks and not bool(padding[:, 0].all()):
            chunk = length
        pieces = tuple(_pieces(length, chunk, padding is not None))
        return Prefill(input_ids, observer, pieces, wanted, select, head_scores, padding)

    def cache(self) -> DynamicCache | None:
        """An empty cache, as the pieces of a sequence go on from; None for a model that takes its sequence at once."""
        return DynamicCache(config=self.model.config) if self._continues else None

    def forward(self, fed: Prefill, start: int, end: int, cache: DynamicCache | None) -> torch.Tensor:
        """The model's own forward of one piece, watched.

        Returns:
            Logits, [batch, end - start, vocabulary].

        Raises:
            IndexscopeError: None of the model's layers reached the attention interface.
        """
        with self.watching(fed, start, end) as running:
            logits: torch.Tensor = self.model(
                **fed.arguments(start, end), past_key_values=cache, use_cache=cache is not None
            ).logits
            if not running.layers:
                raise self.unreached()
        return logits

    @contextmanager
    def watching(self, fed: Prefill, start: int, end: int) -> Iterator[Running]:
        """The capture of one piece of a sequence, within the block, in the calling thread."""
        before = dict(vars(running))
        vars(running).update(self.capture(fed.observer, fed.select, fed.head_scores))
        length = fed.input_ids.shape[1]
        vars(running).update(start=start, length=length, padding=fed.tokens(end), carried=fed.carried)
        try:
            yield running
        finally:
            vars(running).clear()
            vars(running).update(before)

    def unreached(self) -> IndexscopeError:
        """The error for a model none of whose layers can be seen."""
        reason = "none of its layers calls transformers' attention interface"
        return IndexscopeError(self.family, reason, "use another model")

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
        """Feed sequences of equal length in chunks of queries.

        Exact means: equal to ``model(input_ids, attention_mask)`` with the model's own attention, padding included.

        Args:
            input_ids: [batch, sequence], int64, on the model's device.
            observer: Called for every layer of every chunk; returns the attention output.
            chunk: Queries a chunk; memory grows with chunk x sequence.
            select: False runs the same weights without their indexers, dense.
            attention_mask: [batch, sequence], 1 for tokens and 0 for padding, which may be on either side.
            head_scores: Also keep the scores of the single indexer heads and their weights.

        Yields:
            (index of the first query, logits [batch, queries, vocabulary]) of each chunk.

        Raises:
            IndexscopeError: The attention mask has holes, or a layer does not follow its family's shape, which names
                the module.
        """
        fed = self.prefill(input_ids, observer, chunk, select, attention_mask, head_scores)
        cache = self.cache()
        for start, end in fed.pieces:
            yield from fed.cut(start, self.forward(fed, start, end, cache))
            if start // GIVEN_BACK < end // GIVEN_BACK:
                give_back()


def _pieces(length: int, chunk: int, padded: bool) -> Iterator[tuple[int, int]]:
    """First and last + 1 position of each chunk.

    With padding, a chunk has at least 2 tokens: transformers drops the mask of a single one, taking it for generated.
    """
    least = min(2, length) if padded else 1
    chunk = max(chunk, least)
    start = 0
    while start < length:
        end = min(start + chunk, length)
        if 0 < length - end < least:
            end = length - least if length - least - start >= least else length
        yield start, end
        start = end


def _padding(attention_mask: torch.Tensor | None) -> torch.Tensor | None:
    """True for tokens, [batch, sequence], or None where every position is one."""
    if attention_mask is None or bool(attention_mask.all()):
        return None
    tokens = attention_mask.bool()
    if bool((tokens.int().diff(dim=1) != 0).sum(1).gt(tokens[:, 0].int() * -1 + 2).any()):
        raise IndexscopeError("attention_mask", "has padding between tokens", "pad on the left or on the right")
    return tokens


def _watch(indexer: nn.Module, paths: dict[nn.Module, str]) -> None:
    """Have the indexer's forward report its scores while a capture runs in the calling thread."""
    path = paths[indexer]
    modules = {name: module for module, name in paths.items()}
    parts = path.split(".")
    # Not every indexer knows its layer; the attention around it does.
    around = (modules.get(".".join(parts[:end])) for end in range(len(parts), 0, -1))
    layer = layer_of(next((m for m in around if m is not None and hasattr(m, "layer_idx")), indexer), path)
    indexer.forward = _Watched(indexer, indexer.forward, layer, path)
    indexer.__dict__[WATCHED] = True


@dataclass(eq=False)
class _Watched:
    """An indexer's forward that reports its scores; in a copy of the model, the copy's own."""

    indexer: nn.Module
    forward: Callable[..., Any]
    layer: int
    path: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if running.observer is None:
            return self.forward(*args, **kwargs)
        if not running.select:
            skip = running.family.skip
            # A dense reference pays for no scores; of an unknown family nobody knows what else the indexer does.
            return self.forward(*args, **kwargs) if skip is None else skip(arguments_of(self.indexer, args, kwargs))
        with WatchTopk(running.head_scores) as watch:
            result = self.forward(*args, **kwargs)
        running.seen[self.layer] = Seen(self.indexer, self.path, watch.calls, watch.heads, watch.weights)
        return result
