"""The parts of a model whose weights come and go, and how they are called for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel

from indexscope.analysis.capture.streaming.in_step import meet
from indexscope.analysis.capture.streaming.made import as_stored, forget, make
from indexscope.analysis.capture.streaming.replay import now_playing


class LayerWeights(Protocol):
    """A model that has its modules and the buffers that are computed, and its weights part by part."""

    @property
    def model(self) -> PreTrainedModel:
        """The model, in eval mode; weights that are not loaded are on the meta device."""
        ...

    @property
    def layers(self) -> Sequence[nn.Module]:
        """Its decoder layers, in the order in which they run."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def load(self, part: nn.Module, deep: bool = True) -> None:
        """Put the weights of a module in their places, and of all modules within it if ``deep``."""
        ...

    def fill(self, part: nn.Module, deep: bool = True) -> None:
        """Put zeros in the places of weights, without reading any."""
        ...

    def drop(self, part: nn.Module, deep: bool = True) -> None:
        """Let go of the weights of a module, and of all modules within it if ``deep``."""
        ...

    def ahead(self, part: nn.Module, tokens: int) -> None:
        """Begin to read what will be loaded next, for so many tokens, if that helps; returns at once."""
        ...

    def routed(self) -> Sequence[nn.Module]:
        """From now on leave out experts that can be loaded as tokens are routed to them; says of which modules."""
        ...

    def lacking(self, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Set[int]:
        """Experts that a call of such a module needs and that are not there yet, with these arguments."""
        ...

    def load_experts(self, module: nn.Module, experts: Set[int]) -> None:
        """Put the weights of some of its experts in their places."""
        ...


class Parts:
    """Loads what is about to run, and lets go of it when nobody holds it any more.

    Layers, the embedding and the output head are there while they run; other modules stay, once they have run. Experts
    of a layer come as tokens are routed to them, and go with their layer.

    Args:
        weights: Of the model.

    Attributes:
        seconds: What loading has taken.
        reading: Whether weights are read; else there are zeros in their places.
    """

    def __init__(self, weights: LayerWeights) -> None:
        self.weights, self.seconds, self.reading = weights, 0.0, True
        self._lock = threading.RLock()
        self._holders: dict[nn.Module, int] = {}
        self._staying_there: set[nn.Module] = set()
        model = weights.model
        self.embedding: nn.Module = model.get_input_embeddings()
        self.head: nn.Module | None = model.get_output_embeddings()
        if self.head is self.embedding:
            self.head = None
        for module in weights.routed():
            self._stand_in(module, self._routing(module))
        for index, layer in enumerate(weights.layers):
            self._stand_in(layer, self._layer(index, layer))
        self._stand_in(self.embedding, self._embedding())
        coming = [*weights.layers, self.embedding]
        if self.head is not None:
            self._stand_in(self.head, self._last(self.head))
            coming.append(self.head)
        inside = {module for part in coming for module in part.modules()}
        for module in model.modules():
            stored = {*module._parameters, *module._buffers} - module._non_persistent_buffers_set
            if module not in inside and stored:
                self._stand_in(module, self._staying(module))

    @contextmanager
    def held(self, part: nn.Module) -> Iterator[None]:
        """A part's weights, within the block."""
        self.hold(part)
        try:
            yield
        finally:
            self.release(part)

    def hold(self, part: nn.Module) -> None:
        """Have a part's weights there until as many releases."""
        with self._lock:
            if not self._holders.get(part):
                self._load(part)
            self._holders[part] = self._holders.get(part, 0) + 1

    def release(self, part: nn.Module) -> None:
        """The other end of a hold."""
        with self._lock:
            self._holders[part] -= 1
            if not self._holders[part]:
                self._drop(part)

    @contextmanager
    def unread(self) -> Iterator[None]:
        """Have zeros in the places of weights within the block, in which no other thread loads any."""
        with self._lock:
            before, stayed = self.reading, set(self._staying_there)
            self.reading = False
            try:
                yield
            finally:
                self.reading = before
                for part in self._staying_there - stayed:
                    self._drop(part, deep=False)
                self._staying_there = stayed

    def _load(self, part: nn.Module, deep: bool = True) -> None:
        began = time.perf_counter()
        modules = list(part.modules()) if deep else [part]
        as_stored(modules)
        if self.reading:
            self.weights.load(part, deep)
        else:
            self.weights.fill(part, deep)
        make(modules, self.weights.device, self.reading)
        self.seconds += time.perf_counter() - began

    def _drop(self, part: nn.Module, deep: bool = True) -> None:
        self.weights.drop(part, deep)
        forget(part.modules() if deep else [part])

    def _layer(self, index: int, layer: nn.Module) -> Callable[..., Any]:
        own, passing = layer.forward, self._passing(layer)

        def forward(*args: Any, **kwargs: Any) -> Any:
            replay = now_playing()
            if replay is not None:
                return replay.called(index, own, args, kwargs)
            meet(layer)
            return passing(*args, **kwargs)

        return forward

    def _embedding(self) -> Callable[..., Any]:
        passing = self._passing(self.embedding)

        def forward(*args: Any, **kwargs: Any) -> Any:
            replay = now_playing()
            return passing(*args, **kwargs) if replay is None else replay.embedded(passing, args, kwargs)

        return forward

    def _last(self, head: nn.Module) -> Callable[..., Any]:
        passing = self._passing(head)

        def forward(*args: Any, **kwargs: Any) -> Any:
            meet(head)
            return passing(*args, **kwargs)

        return forward

    def _passing(self, part: nn.Module) -> Callable[..., Any]:
        own = part.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            with self.held(part):
                return own(*args, **kwargs)

        return forward

    def _staying(self, part: nn.Module) -> Callable[..., Any]:
        own = part.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                if part not in self._staying_there:
                    self._load(part, deep=False)
                    self._staying_there.add(part)
            return own(*args, **kwargs)

        return forward

    def _routing(self, part: nn.Module) -> Callable[..., Any]:
        own = part.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                experts = self.weights.lacking(part, args, kwargs) if self.reading else set[int]()
                if experts:
                    began = time.perf_counter()
                    self.weights.load_experts(part, experts)
                    self.seconds += time.perf_counter() - began
            return own(*args, **kwargs)

        return forward

    @staticmethod
    def _stand_in(part: nn.Module, forward: Callable[..., Any]) -> None:
        part.forward = forward
