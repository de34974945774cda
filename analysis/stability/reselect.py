"""Runs of a model whose selections are replaced, and what is kept of each run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.observers import Resumable, capture_sparse
from indexscope.analysis.capture.source import Source
from indexscope.analysis.closeup.order import Choice, choice, own_priority, top
from indexscope.analysis.stability.rounding import ROUNDINGS, TIES, latest

T = TypeVar("T")
#: Scores (queries x heads x keys) that are rounded and ordered at once; several tensors of this size live side by side.
_NUMBERS = 1 << 20


@dataclass(frozen=True)
class LayerSelection:
    """What one layer selects at the sampled queries, keys padded to the sequence's length.

    Attributes:
        selected: S_t, [Q, length], bool.
        n: n_t, [Q]; 0 for queries at which the layer's selection was not seen as one over tokens.
        exact: What topk may choose from the scores that the selection came from; None where these are not known.
    """

    selected: torch.Tensor
    n: torch.Tensor
    exact: Choice | None


@dataclass(frozen=True)
class Run:
    """What is kept of one run.

    Attributes:
        logits: At the sampled queries, [Q, vocabulary], float32, on the CPU.
        layers: Layers that select, by index.
        replaced: Whether any selection was replaced.
    """

    logits: torch.Tensor
    layers: dict[int, LayerSelection]
    replaced: bool


def run(source: Source, ids: torch.Tensor, places: torch.Tensor, chunk: int, variant: str | None = None) -> Run:
    """Run one sequence [1, length] and keep what the sampled queries show; see `begun`."""
    return begun(source, ids, places, chunk, variant)()


def begun(
    source: Source, ids: torch.Tensor, places: torch.Tensor, chunk: int, variant: str | None = None
) -> Callable[[], Run]:
    """Ask a model for a run of one sequence [1, length], to keep what the sampled queries show.

    Args:
        source: The model. A streamed one serves all runs together that are begun before the first is finished.
        ids: Its tokens.
        places: Positions of the sampled queries, ascending, on the CPU.
        chunk: Queries a chunk.
        variant: ``ties`` or a rounding, which chooses every selection; None leaves the model's own.

    Returns:
        Finishes the run.
    """
    swap = Swap(variant) if variant else None
    keep = _Keep(places, ids.shape[1])

    def observe(seen: AttentionChunk) -> torch.Tensor:
        now = swap(seen) if swap else seen
        keep(now)
        return capture_sparse(now)

    def state() -> object:
        return keep.state(), None if swap is None else swap.state()

    def restore(state: Any) -> None:
        kept, swapped = state
        keep.restore(kept)
        if swap is not None:
            swap.restore(swapped)

    looked_at = Resumable(observe, state, restore)
    asked = source.run(ids.to(source.device), looked_at, chunk, head_scores=variant == "fp8")

    def finish() -> Run:
        logits = []
        for start, values in asked:
            here = (places >= start) & (places < start + values.shape[1])
            logits.append(values[0, (places[here] - start).to(values.device)].float().cpu())
        return Run(torch.cat(logits), keep.layers(), swap is not None and swap.replaced)

    return finish


class _ByStart(Generic[T]):
    """Something for each chunk of a sequence, whether all its layers come in turn or all chunks of each layer."""

    def __init__(self, fresh: Callable[[], T]) -> None:
        self._fresh, self._layer = fresh, -1
        self._held: dict[int, T] = {}

    def of(self, chunk: AttentionChunk) -> T:
        """What is held for a chunk; nothing of the chunks before it once they have been through all layers."""
        if chunk.layer < self._layer:
            self._held.clear()
        self._layer = chunk.layer
        return self._held.setdefault(chunk.start, self._fresh())

    def state(self) -> tuple[int, dict[int, T]]:
        """What is held between two layers."""
        return self._layer, self._held

    def restore(self, state: tuple[int, dict[int, T]]) -> None:
        """Hold that."""
        self._layer, self._held = state


class Swap:
    """Replaces the selection of every layer that has token scores, and of layers that reuse such a selection."""

    def __init__(self, variant: str) -> None:
        self.variant, self.replaced = variant, False
        #: The model's own selection and the one in its place, of the last layer that has scores.
        self._pairs = _ByStart[list[tuple[torch.Tensor, torch.Tensor]]](list)

    def __call__(self, chunk: AttentionChunk) -> AttentionChunk:
        """The chunk with the selection that the variant makes."""
        pairs, before = self._pairs.of(chunk), chunk.selected
        if before is None or before.shape[1] != 1:
            return chunk
        if _own_scores(chunk) is not None:
            pairs[:] = [(before, self._chosen(chunk, before))]
        after = next((after for first, after in pairs if _equal(first, before)), None)
        if after is None:
            return chunk
        self.replaced = True
        return replace(chunk, selected=after)

    def state(self) -> object:
        """What it has come to between two layers."""
        return self.replaced, self._pairs.state()

    def restore(self, state: Any) -> None:
        """Go on from there."""
        self.replaced, pairs = state
        self._pairs.restore(pairs)

    def _chosen(self, chunk: AttentionChunk, before: torch.Tensor) -> torch.Tensor:
        scores = _own_scores(chunk)
        assert scores is not None
        heads, weights = (None if one is None else one[0] for one in (chunk.head_scores, chunk.head_weights))
        size = max(1, _NUMBERS // (scores.shape[-1] * (1 if heads is None else heads.shape[1])))
        after = torch.empty_like(before[0, 0])
        for first in range(0, len(scores), size):
            rows = slice(first, first + size)
            parts = (None if one is None else one[rows].float() for one in (heads, weights))
            after[rows] = self._of_rows(scores[rows], chunk.eligible[0, 0, rows], before[0, 0, rows], *parts)
        return after[None, None]

    def _of_rows(
        self,
        scores: torch.Tensor,
        eligible: torch.Tensor,
        before: torch.Tensor,
        heads: torch.Tensor | None,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """The selection of some queries, which do not depend on each other."""
        up = eligible & (scores > -torch.inf)
        own = before & up
        k = own.sum(-1)
        if self.variant == TIES:
            now = top(scores, up, k, latest(up))
        else:
            rounded = ROUNDINGS[self.variant](scores, up, heads, weights)
            now = top(rounded, up, k, own_priority(choice(scores, up, k), own))
        return now | (before & ~up)


def _own_scores(chunk: AttentionChunk) -> torch.Tensor | None:
    """Token scores [queries, keys] of the layer's own indexer, float32."""
    scores = chunk.scores
    return scores[0].float() if scores is not None and scores.dim() == 3 and chunk.entries is None else None


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool(torch.equal(one, other))


class _Keep:
    """Gathers the selections at the sampled queries, chunk by chunk."""

    def __init__(self, places: torch.Tensor, length: int) -> None:
        self.places, self.length = places, length
        self.parts: dict[int, list[tuple[torch.Tensor, LayerSelection]]] = {}
        self._latest = _ByStart[list[LayerSelection]](list)

    def __call__(self, chunk: AttentionChunk) -> None:
        before = self._latest.of(chunk)
        last = chunk.start + chunk.query.shape[2]
        here = (self.places >= chunk.start) & (self.places < last)
        selected = chunk.selected
        tokens = chunk.positions is None and chunk.eligible.shape[-1] == last
        if selected is None or selected.shape[1] != 1 or not tokens or not bool(here.any()):
            return
        rows = (self.places[here] - chunk.start).to(selected.device)
        eligible, own = chunk.eligible[0, 0, rows], selected[0, 0, rows]
        found = LayerSelection(self._wide(own), eligible.sum(-1).cpu(), self._exact(chunk, rows, eligible, own, before))
        self.parts.setdefault(chunk.layer, []).append((here, found))
        before[:] = [found]

    def _exact(
        self,
        chunk: AttentionChunk,
        rows: torch.Tensor,
        eligible: torch.Tensor,
        own: torch.Tensor,
        before: list[LayerSelection],
    ) -> Choice | None:
        """What topk may choose; a layer that reuses the selection before it may choose what that one may."""
        scores = _own_scores(chunk)
        if scores is None:
            return next((one.exact for one in before if _equal(one.selected, self._wide(own))), None)
        up = eligible & (scores[rows] > -torch.inf)
        found = choice(scores[rows], up, (own & up).sum(-1))
        return Choice(found.k.cpu(), self._wide(found.sure), self._wide(found.tied), found.room.cpu())

    def _wide(self, mask: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(mask.cpu(), (0, self.length - mask.shape[-1]))

    def state(self) -> object:
        """What it has gathered between two layers."""
        return self.parts, self._latest.state()

    def restore(self, state: Any) -> None:
        """Go on from there."""
        self.parts, latest = state
        self._latest.restore(latest)

    def layers(self) -> dict[int, LayerSelection]:
        return {layer: self._joined(self.parts[layer]) for layer in sorted(self.parts)}

    def _joined(self, parts: list[tuple[torch.Tensor, LayerSelection]]) -> LayerSelection:
        def spread(values: Callable[[LayerSelection], torch.Tensor]) -> torch.Tensor:
            first = values(parts[0][1])
            whole = first.new_zeros((len(self.places), *first.shape[1:]))
            for here, part in parts:
                whole[here] = values(part)
            return whole

        exacts = [part.exact for _, part in parts]
        exact = None
        if all(found is not None for found in exacts):
            exact = Choice(*(spread(_field(name)) for name in ("k", "sure", "tied", "room")))
        return LayerSelection(spread(lambda part: part.selected), spread(lambda part: part.n), exact)


def _field(name: str) -> Callable[[LayerSelection], torch.Tensor]:
    def read(part: LayerSelection) -> torch.Tensor:
        value: torch.Tensor = getattr(part.exact, name)
        return value

    return read
