"""One run of sequences that goes through a model layer by layer, forward after forward."""

from __future__ import annotations

import threading
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from indexscope import IndexscopeError
from indexscope.analysis.capture.interface import Running, running
from indexscope.analysis.capture.model import CapturedModel, Prefill
from indexscope.analysis.capture.selecting import Carried
from indexscope.analysis.capture.streaming.lengths import Answer, LayerCache
from indexscope.analysis.capture.streaming.nested import found, mapped
from indexscope.analysis.capture.streaming.states import Leaf, States

REMEDY = "use extract.placement whole"


class Reached(BaseException):
    """Ends a forward after the layer that was to run; no model catches it."""


@dataclass
class _Output:
    """What one layer did with one piece: what it returned, and what it put into mappings and lists it was handed."""

    returned: Any
    put: list[tuple[int | str, Any, Any]] = field(default_factory=list)


class Replay:
    """Takes sequences through a model, one layer at a time.

    Args:
        source: The model.
        fed: The sequences.
        states: Where outputs of layers lie meanwhile.
        layers: How many the model has.
        shared: As `indexscope.analysis.capture.selecting.shared_by` gives it.
        watched: Whether its attention is captured; else it is the model's own, on sequences without padding.

    Attributes:
        seen: Whether any layer's attention was seen.
    """

    def __init__(
        self,
        source: CapturedModel,
        fed: Prefill,
        states: States,
        layers: int,
        shared: Mapping[int, frozenset[int]],
        watched: bool = True,
    ) -> None:
        self.source, self.fed, self._states, self._layers, self._shared = source, fed, states, layers, shared
        self.watched, self.seen = watched, not watched
        self._outputs: list[list[_Output]] = []
        self._embedded: list[list[tuple[torch.Size, torch.dtype]]] = [[] for _ in fed.pieces]
        self._asked: list[list[Answer]] = []
        #: What is handed on beside the model's own code: of each piece to later layers, of a layer to later pieces.
        self._handed: list[dict[tuple[str, int], Any]] = [{} for _ in fed.pieces]
        self._along: dict[Any, Any] = {}
        #: Leaves that have their values: of the layers before, and of the one that runs.
        self._there: set[Leaf] = set()
        self._fresh: set[Leaf] = set()
        self._needed: set[Leaf] = set()
        # Of the forward that is running:
        self._stage, self._piece, self._next = 0, 0, 0
        self._embeddings = 0
        self._cache: LayerCache | None = None
        self._restored: dict[int, tuple[torch.Tensor, Leaf]] = {}

    def through(self, layer: int, module: nn.Module) -> None:
        """Take all pieces through one layer, whose weights are there."""
        self._outputs.append([])
        self._needed, self._fresh, self._along = set(), set(), {}
        cache = self._fresh_cache()
        with torch.inference_mode(), _as_it_was(module):
            for piece, (start, end) in enumerate(self.fed.pieces):
                self._begin(layer, piece, cache)
                with self._watching(start, end) as seen, playing(self), self._handing_on():
                    try:
                        self._forward(start, end)
                    except Reached:
                        pass
                    else:
                        raise self._refused(f"never calls its layer {layer}")
                    self.seen = self.seen or (seen is not None and bool(seen.layers))
                self._end(start, end)
        for leaf in self._there - self._needed:
            leaf.drop()
        self._there = (self._there & self._needed) | self._fresh

    def logits(self) -> Iterator[tuple[int, torch.Tensor]]:
        """What the model makes of the last layer's outputs, in chunks as `CapturedModel.run` yields them."""
        if not self.seen:
            raise self.source.unreached()
        cache = self._fresh_cache()
        for piece, (start, end) in enumerate(self.fed.pieces):
            self._begin(self._layers, piece, cache)
            with torch.inference_mode():
                with self._watching(start, end), playing(self):
                    logits = self._forward(start, end)
                if logits.is_meta:
                    raise self._refused("computes its logits from more than its last layer's output")
                self._end(start, end)
            yield from self.fed.cut(start, logits)

    def state(self) -> object:
        """What it has come to between two layers."""
        return self._outputs, self._embedded, self._asked, self._handed, self._there, self.seen

    def restore(self, state: Any) -> None:
        """Go on from what another one had come to with the same sequences."""
        self._outputs, self._embedded, self._asked, self._handed, self._there, self.seen = state

    def discard(self) -> None:
        """Let go of everything."""
        for leaf in self._there | self._fresh:
            leaf.drop()
        for handed in self._handed:
            for leaf in found(handed, Leaf):
                leaf.drop()
            handed.clear()
        self._there, self._fresh, self._along = set(), set(), {}

    def _watching(self, start: int, end: int) -> AbstractContextManager[Running | None]:
        return self.source.watching(self.fed, start, end) if self.watched else nullcontext()

    @contextmanager
    def _handing_on(self) -> Iterator[None]:
        """While a piece goes through a layer: what earlier layers left for it is there, what it leaves is kept."""
        held = self._handed[self._piece]
        here = {key: mapped(Leaf.value, value, Leaf) for key, value in held.items() if self._stage in self._takers(key)}
        before, running.carried = running.carried, Carried(here, self._along)
        try:
            yield
        finally:
            running.carried = before
        later = {key for key in {*held, *here} if max(self._takers(key), default=-1) > self._stage}
        for key in later - held.keys():
            held[key] = mapped(lambda tensor: Leaf(tensor, self._states), here[key], torch.Tensor)
        for key in held.keys() - later:
            for leaf in found(held.pop(key), Leaf):
                leaf.drop()

    def _takers(self, key: tuple[str, int]) -> frozenset[int]:
        return self._shared.get(key[1], frozenset())

    def _fresh_cache(self) -> LayerCache | None:
        cache = self.source.cache() if self.watched else None
        assert cache is None or isinstance(cache, LayerCache)
        return cache

    def _begin(self, stage: int, piece: int, cache: LayerCache | None) -> None:
        self._stage, self._piece, self._next, self._embeddings = stage, piece, 0, 0
        self._cache, self._restored = cache, {}
        if cache is not None:
            cache.asked = []

    def _end(self, start: int, end: int) -> None:
        self._restored = {}
        if self._cache is None:
            return
        if self._stage == 0:
            self._asked.append(self._cache.asked)
        elif self._cache.asked != self._asked[self._piece]:
            raise self._refused("keeps other lengths in its cache than one for each token")
        self._cache.advance(self._stage, self.fed.input_ids.shape[0], end - start)

    def _forward(self, start: int, end: int) -> torch.Tensor:
        cached = {"past_key_values": self._cache, "use_cache": self._cache is not None}
        try:
            logits: torch.Tensor = self.source.model(**self.fed.arguments(start, end), **cached).logits
        except (RuntimeError, NotImplementedError) as error:
            if "meta" not in str(error):
                raise
            where = f"layer {self._stage}" if self._stage < self._layers else "the end of the model"
            raise self._refused(f"{where} needs more than the layer before it returned ({error})") from error
        if self._next != self._layers:
            raise self._refused(f"calls {self._next} of its {self._layers} layers")
        return logits

    def called(self, layer: int, own: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Stand in for a layer's forward while a replay runs.

        Args:
            layer: Index of the layer.
            own: Its own forward.
            args: What the model calls it with.
            kwargs: And by name.
        """
        if layer != self._next:
            raise self._refused(f"calls layer {layer} where layer {self._next} is the next")
        self._next += 1
        if layer < self._stage:
            return self._again(self._outputs[layer][self._piece], args, kwargs)
        self._check(args, kwargs)
        before = {place: _copied(held) for place, held in _containers(args, kwargs)}
        with self._within():
            returned = own(*args, **kwargs)
        put = [
            (place, key, value)
            for place, held in _containers(args, kwargs)
            for key, value in _items(held)
            if key not in before[place] or before[place][key] is not value
        ]
        if any(tensor.is_meta for tensor in found((returned, put), torch.Tensor)):
            raise self._refused(f"layer {layer} needs what other layers' caches hold")
        self._outputs[layer].append(_Output(self._kept(returned), [(a, b, self._kept(value)) for a, b, value in put]))
        raise Reached

    def embedded(self, own: Callable[..., torch.Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        """Stand in for the embedding's forward: only the first layer needs it."""
        if self._stage == 0:
            made = own(*args, **kwargs)
            self._embedded[self._piece].append((made.shape, made.dtype))
            return made
        shape, dtype = self._embedded[self._piece][self._embeddings]
        self._embeddings += 1
        # Shape, type and device are what masks and rotary embeddings need; whatever needs the values is found out.
        return torch.full((), torch.nan, dtype=dtype, device=self.fed.input_ids.device).expand(shape)

    @contextmanager
    def _within(self) -> Iterator[None]:
        """While a layer asks its own part of the cache."""
        if self._cache is not None:
            self._cache.within = True
        try:
            yield
        finally:
            if self._cache is not None:
                self._cache.within = False

    def _kept(self, value: Any) -> Any:
        def keep(tensor: torch.Tensor) -> Leaf:
            leaf = Leaf(tensor, self._states)
            self._fresh.add(leaf)
            return leaf

        return mapped(keep, value, torch.Tensor)

    def _again(self, output: _Output, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if output.put:
            places = dict(_containers(args, kwargs))
            for place, key, value in output.put:
                _set(places[place], key, mapped(self._restore, value, Leaf))
        return mapped(self._restore, output.returned, Leaf)

    def _restore(self, leaf: Leaf) -> torch.Tensor:
        value = leaf.value()
        if not value.is_meta:
            self._restored[id(value)] = value, leaf
        return value

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """See which outputs of layers before reach this one, and that everything that reaches it has its values."""
        restored = [value for value, _ in self._restored.values()]
        for tensor in found((args, kwargs), torch.Tensor):
            if tensor.is_meta:
                raise self._refused(f"layer {self._stage} needs outputs of layers long before it")
            if id(tensor) in self._restored:
                self._needed.add(self._restored[id(tensor)][1])
            elif self._stage and not self._piece and _has_nan(tensor) and not any(map(_has_nan, restored)):
                raise self._refused(f"layer {self._stage} needs the embeddings of the tokens")

    def _refused(self, reason: str) -> IndexscopeError:
        return IndexscopeError(self.source.family, f"cannot be streamed: {reason}", REMEDY)


def _has_nan(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isnan().any())


def _containers(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[int | str, Any]]:
    """The mappings and lists that a layer is handed, by their place among its arguments."""
    places: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    for place, held in places:
        if isinstance(held, (dict, UserDict, list)):
            yield place, held


def _items(held: Any) -> Iterator[tuple[Any, Any]]:
    yield from (enumerate(held) if isinstance(held, list) else held.items())


def _copied(held: Any) -> dict[Any, Any]:
    return dict(_items(held))


def _set(held: Any, key: Any, value: Any) -> None:
    if isinstance(held, list) and key == len(held):
        held.append(value)
    else:
        held[key] = value


class _Playing(threading.local):
    """The replay whose forward runs in this thread."""

    now: Replay | None = None


_playing = _Playing()


def now_playing() -> Replay | None:
    """The replay whose forward runs in this thread; None where the model is called by somebody else."""
    return _playing.now


@contextmanager
def playing(replay: Replay) -> Iterator[None]:
    """Have the model's layers ask this replay, within the block and this thread."""
    before, _playing.now = _playing.now, replay
    try:
        yield
    finally:
        _playing.now = before


@contextmanager
def _as_it_was(module: nn.Module) -> Iterator[None]:
    """Take from modules the tensors that they kept on themselves; layers that look for them find none, not old ones."""
    before = {part: dict(vars(part)) for part in module.modules()}
    try:
        yield
    finally:
        for part, had in before.items():
            for key, value in list(vars(part).items()):
                if isinstance(value, torch.Tensor) and had.get(key) is not value:
                    if key in had:
                        vars(part)[key] = had[key]
                    else:
                        del vars(part)[key]
