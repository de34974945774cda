"""A transformers model whose weights are read layer by layer, as a `Source`."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cached_property
from itertools import groupby
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import DynamicCache

from indexscope import IndexscopeError
from indexscope.analysis.capture.chunk import AttentionChunk, Observer
from indexscope.analysis.capture.interface import running
from indexscope.analysis.capture.model import CapturedModel, Prefill, own_attention
from indexscope.analysis.capture.observers import capture_sparse, resumable
from indexscope.analysis.capture.selecting import shared_by
from indexscope.analysis.capture.streaming.commits import Commits, Passing, mark_of
from indexscope.analysis.capture.streaming.in_step import Forward, in_step
from indexscope.analysis.capture.streaming.lengths import LayerCache
from indexscope.analysis.capture.streaming.replay import Replay
from indexscope.analysis.capture.streaming.states import InMemory, States
from indexscope.analysis.capture.streaming.together import Worker, side_by_side, this_worker
from indexscope.analysis.capture.streaming.weights import LayerWeights, Parts

T = TypeVar("T")
#: Told of every layer that a sweep has come to: its number from 1, how many there are, sequences taken through.
Progress = Callable[[int, int, int], None]


class _Request:
    """A run that waits for a sweep, or has been taken through one.

    Attributes:
        fed: What is run.
        worker: Whose it is; None for a run that is alone.
        watched: Whether its attention is captured; else it is the model's own.
        observer: Who looks on, where that can be put away between two layers.
        replay: Its way through the layers; None before the sweep.
        error: What ended it on its way.
    """

    def __init__(
        self,
        fed: Prefill,
        worker: Worker[object] | None = None,
        watched: bool = True,
        observer: Observer | None = None,
    ) -> None:
        self.fed, self.worker, self.watched = fed, worker, watched
        self.observer = None if observer is None else resumable(observer)
        self.replay: Replay | None = None
        self.error: Exception | None = None

    @property
    def swept(self) -> bool:
        return self.replay is not None

    @property
    def mark(self) -> str | None:
        """What tells its sequences and how they run; None where it cannot be put away."""
        fed = self.fed
        if self.observer is None or fed.padding is not None:
            return None
        return mark_of(fed.input_ids, fed.pieces, fed.wanted, fed.select, fed.head_scores, self.watched)

    def state(self) -> Any:
        """What it has come to between two layers."""
        assert self.replay is not None and self.observer is not None
        return self.replay.state(), self.observer.state()

    def restore(self, state: Any) -> None:
        """Go on from there."""
        assert self.replay is not None and self.observer is not None
        replayed, observed = state
        self.replay.restore(replayed)
        self.observer.restore(observed)


class StreamedModel(CapturedModel):
    """A model that is never in memory whole.

    A run is served by a sweep: each layer is read once, and all runs that wait are taken through it before the next. A
    run by itself is a sweep by itself; `side_by_side` has many wait together. Whatever else calls the model's forward
    gets right numbers too, each layer being read as it is called.

    Args:
        weights: Of the model, by part.
        states: Where the outputs of layers lie in a sweep.
        progress: Is told how far a sweep has come.

    Raises:
        IndexscopeError: The architecture cannot be captured.
    """

    def __init__(
        self, weights: LayerWeights, states: States | None = None, progress: Progress = lambda *told: None
    ) -> None:
        super().__init__(weights.model)
        self._weights, self._parts = weights, Parts(weights)
        self._states, self._progress = states or InMemory(), progress
        self._alone = threading.RLock()
        self._waiting: dict[Worker[object], list[_Request]] = {}
        self._shared = shared_by(self.model)

    def changed(self) -> None:
        """Look at the model anew: an edit was made, or an indexer laid over it."""
        super().__init__(self.model)
        self._shared = shared_by(self.model)
        for name in ("_glanced", "notes"):
            self.__dict__.pop(name, None)

    @contextmanager
    def unread(self) -> Iterator[None]:
        """Run the model with zeros in the places of its weights within the block, for what only its modules decide."""
        with self._alone, self._parts.unread():
            yield

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self._weights.device

    def cache(self) -> DynamicCache | None:
        """An empty cache that tells lengths of layers that are not filled."""
        return LayerCache(config=self.model.config) if self._continues else None

    def run(
        self,
        input_ids: torch.Tensor,
        observer: Observer,
        chunk: int,
        select: bool = True,
        attention_mask: torch.Tensor | None = None,
        head_scores: bool = False,
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """As `CapturedModel.run`, but that a layer's chunks all come before the next layer's.

        Within `side_by_side` the run waits from this call on; otherwise from when the first logits are asked for.
        """
        fed = self.prefill(input_ids, observer, chunk, select, attention_mask, head_scores)
        request = _Request(fed, this_worker(), observer=observer)
        if request.worker is not None:
            self._waiting.setdefault(request.worker, []).append(request)
        return self._served(request)

    def glance(
        self, input_ids: torch.Tensor, observer: Observer, chunk: int, head_scores: bool = False
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """As `run`, for observers that look at what the model is made of, not at numbers: no weight is read.

        Two tokens are run once for all who look at them.
        """
        if input_ids.tolist() != [[0, 0]]:
            fed = self.prefill(input_ids, observer, chunk, head_scores=head_scores)
            with self.unread():
                parts = list(self._served(_Request(fed)))
            yield from parts
            return
        for part in self._glanced[0]:
            observer(part if head_scores else dataclasses.replace(part, head_scores=None, head_weights=None))
        yield 0, self._glanced[1]

    def plain(
        self,
        sequences: Sequence[torch.Tensor],
        looks: Sequence[tuple[torch.Tensor, Observer]] = (),
        missed: Callable[[IndexscopeError], None] = lambda error: None,
        also: Sequence[Passing] = (),
    ) -> Generator[torch.Tensor, None, None]:
        """Logits [batch, S, vocabulary] of whole sequences [batch, S] with the model's own attention.

        One sweep serves all, and takes along runs whose attention is captured, of which no logits are made.

        Args:
            sequences: What runs as it is.
            looks: What runs under the eyes of an observer.
            missed: Told why one of these cannot be captured.
            also: What else of the pass is to be put away with it, such as what hooks have gathered.
        """
        asked = []
        for ids in sequences:
            fed = Prefill(ids, capture_sparse, ((0, ids.shape[1]),), ids.shape[1])
            asked.append(_Request(fed, watched=False, observer=capture_sparse))
        looking = [_Request(self.prefill(ids, look, ids.shape[1]), observer=look) for ids, look in looks]
        self._sweep([*looking, *asked], also)
        for request in looking:
            assert request.replay is not None
            request.replay.discard()
            error = request.error if request.replay.seen else request.error or self.unreached()
            if isinstance(error, IndexscopeError):
                missed(error)
            elif error is not None:
                raise error
        with self._parts.held(self._head), own_attention(self.model):
            for request in asked:
                yield torch.cat([logits for _, logits in self._served(request)], 1)

    @property
    def attentions(self) -> dict[int, nn.Module]:
        """The module of each layer whose attention map is seen."""
        return self._glanced[2]

    @cached_property
    def _glanced(self) -> tuple[list[AttentionChunk], torch.Tensor, dict[int, nn.Module]]:
        """What two tokens show: chunks, logits, and the module of each layer that attends."""
        parts: list[AttentionChunk] = []
        modules: dict[int, nn.Module] = {}

        def observe(part: AttentionChunk) -> torch.Tensor:
            parts.append(part)
            modules[part.layer] = running.layers[part.layer]
            return capture_sparse(part)

        ids = torch.zeros((1, 2), dtype=torch.int64, device=self.device)
        request = _Request(self.prefill(ids, observe, 2, head_scores=True))
        with self.unread():
            logits = torch.cat([logits for _, logits in self._served(request)], 1)
        return parts, logits, modules

    def side_by_side(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """Do pieces of work that run this model so that a sweep serves all of them, whenever all of them wait.

        Each works in a thread of its own, one at a time. Works may have works of their own: a sweep serves all of them.
        """
        around = this_worker()
        if around is not None:
            return side_by_side(works, around.park)
        with ExitStack() as after:

            def serve() -> None:
                after.close()
                # Whoever has ended or tries again asks for nothing of before.
                waiting = [one for worker, asked in self._waiting.items() if not worker.ended for one in asked]
                self._waiting.clear()
                self._sweep([request for request in waiting if not request.swept])
                after.enter_context(self._parts.held(self._head))  # for all that now go on to their logits

            return side_by_side(works, serve)

    def in_step(self, works: Sequence[Callable[[Forward], T]], tokens: int) -> list[T]:
        """Do pieces of work, each of which calls the model's own forward once: each layer is read once for all.

        Each works in a thread of its own, one at a time, and waits before a layer until all have come there.

        Args:
            works: What is to be done.
            tokens: How many different ones they run in all.
        """
        layers, head = self._weights.layers, self._parts.head

        def come_to(place: int, forwards: int) -> None:
            if place + 1 < len(layers):
                self._weights.ahead(layers[place + 1], tokens)
            if place < len(layers):
                self._progress(place + 1, len(layers), forwards)

        parts = [*layers, *([] if head is None else [head])]
        with self._alone:
            return in_step(works, self._parts, self._parts.embedding, parts, self.device, come_to)

    @torch.inference_mode()
    def _served(self, request: _Request) -> Iterator[tuple[int, torch.Tensor]]:
        try:
            if not request.swept:
                if request.worker is None:
                    self._sweep([request])
                else:
                    request.worker.park()
            if request.error is not None:
                raise request.error
            assert request.replay is not None
            with self._parts.held(self._head):
                yield from request.replay.logits()
        finally:
            if request.replay is not None:
                request.replay.discard()

    @property
    def loading_seconds(self) -> float:
        """What loading weights has taken so far."""
        return self._parts.seconds

    @property
    def states(self) -> States:
        """Where the outputs of layers lie in a sweep, and what is kept of a close look at them."""
        return self._states

    @property
    def _head(self) -> nn.Module:
        return self._parts.head or self._parts.embedding

    def _sweep(self, requests: Sequence[_Request], also: Sequence[Passing] = ()) -> None:
        layers = self._weights.layers
        going = list(requests)
        for request in going:
            request.replay = Replay(self, request.fed, self._states, len(layers), self._shared, request.watched)
        with self._alone, ExitStack() as inlet:
            try:
                passing = [*requests, *also] if self._parts.reading else []
                commits = Commits(passing, len(layers), self._states, self.device)
                done = commits.taken_up()
                if not done:
                    inlet.enter_context(self._parts.held(self._parts.embedding))
                for index, layer in enumerate(layers[done:], done):
                    if not going:
                        break
                    with self._parts.held(layer):
                        if index + 1 < len(layers) and self._parts.reading:
                            self._weights.ahead(layers[index + 1], sum(one.fed.input_ids.numel() for one in going))
                        for watched, alike in groupby(list(going), lambda one: one.watched):
                            with nullcontext() if watched else own_attention(self.model):
                                for request in alike:
                                    self._through(request, index, layer, going)
                    inlet.close()  # only the first layer needs the embedding
                    if self._parts.reading:
                        self._progress(index + 1, len(layers), len(going))
                    if len(going) == len(requests):  # else some will ask again, and a pass begins with all
                        commits.after(index + 1)
            except BaseException:
                for request in requests:
                    if request.replay is not None:
                        request.replay.discard()
                raise

    @staticmethod
    def _through(request: _Request, index: int, layer: nn.Module, going: list[_Request]) -> None:
        assert request.replay is not None
        try:
            request.replay.through(index, layer)
        except Exception as error:  # of whoever looks on, or of memory: this run's alone, raised where it is waited for
            request.error = error.with_traceback(None)
            request.replay.discard()
            going.remove(request)
