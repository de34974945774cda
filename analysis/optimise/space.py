"""What may vary: heads and k of every layer with an indexer, who shares whose selection, and the scores' precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from indexscope.analysis.edits.edit import Edit, Precision

#: Budgets that are tried, as parts of the layer's own k: two a doubling, from an eighth to twice as many.
PARTS = (1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1.0, 3 / 2, 2.0)


@dataclass(frozen=True)
class Layer:
    """A layer with an indexer of its own.

    Attributes:
        layer: Its index in the model.
        heads: Indexer heads.
        topk: Keys that a query selects.
    """

    layer: int
    heads: int
    topk: int

    @cached_property
    def budgets(self) -> tuple[int, ...]:
        """Keys that may be tried, ascending; its own k is among them."""
        return tuple(sorted({max(1, round(part * self.topk)) for part in PARTS}))


class Choice(NamedTuple):
    """What a layer that selects for itself keeps.

    Attributes:
        heads: Indexer heads, ascending.
        topk: Keys a query.
    """

    heads: tuple[int, ...]
    topk: int


@dataclass(frozen=True)
class Point:
    """A place in the space.

    Attributes:
        choices: One for each layer with an indexer; None where it takes the selection of the nearest before it that
            selects. The first selects.
        precision: Of the scores; None leaves it.
    """

    choices: tuple[Choice | None, ...]
    precision: Precision | None = None

    @property
    def sources(self) -> tuple[int, ...]:
        """The place of the layer whose selection each takes, its own where it selects."""
        found: list[int] = []
        for place, choice in enumerate(self.choices):
            found.append(place if choice is not None else found[-1])
        return tuple(found)

    def with_choice(self, place: int, choice: Choice | None) -> Point:
        """The same but for one layer."""
        return replace(self, choices=(*self.choices[:place], choice, *self.choices[place + 1 :]))


@dataclass(frozen=True)
class Space:
    """All edits that may be tried of a model.

    Attributes:
        depth: Layers of the model.
        layers: Those with an indexer of their own, ascending.
        precisions: Precisions of the scores in which they are cheaper than as they are.
        sharing: Layers that take an earlier one's selection in the model itself.
    """

    depth: int
    layers: tuple[Layer, ...]
    precisions: tuple[Precision, ...] = ()
    sharing: tuple[int, ...] = ()

    @cached_property
    def origin(self) -> Point:
        """The model as it is."""
        return Point(tuple(self.full(place) for place in range(len(self.layers))))

    def full(self, place: int) -> Choice:
        """A layer as it is."""
        layer = self.layers[place]
        return Choice(tuple(range(layer.heads)), layer.topk)

    def edit(self, point: Point) -> Edit:
        """The edit of a point; points and edits of this space are one to one."""
        own = [(layer, one) for layer, one in zip(self.layers, point.choices, strict=True) if one is not None]
        heads = {layer.layer: one.heads for layer, one in own if len(one.heads) < layer.heads}
        topk = {layer.layer: one.topk for layer, one in own if one.topk != layer.topk}
        shared = {layer.layer for layer, one in zip(self.layers, point.choices, strict=True) if one is None}
        letters = {*shared, *self.sharing} if shared else set[int]()
        share = "".join("S" if layer in letters else "F" for layer in range(self.depth)) if shared else ""
        return Edit.model_validate({"indexer_heads": heads, "topk": topk, "share": share, "precision": point.precision})

    def point(self, edit: Edit) -> Point | None:
        """The point of an edit; None where it changes what is no part of this space."""
        known = {layer.layer: layer for layer in self.layers}
        named = {*edit.indexer_heads, *(layer for layer in edit.topk if layer != "default")}
        if not named <= known.keys() or edit.selector.name != "learned":
            return None
        if edit.precision is not None and edit.precision not in self.precisions:
            return None
        named = {layer for layer, letter in enumerate(edit.share) if letter == "S"}
        if not named <= {*known, *self.sharing} or (named and not named >= set(self.sharing)):
            return None
        sources = edit.sources(known)
        choices: list[Choice | None] = []
        for layer in self.layers:
            heads = edit.indexer_heads.get(layer.layer, tuple(range(layer.heads)))
            if not set(heads) <= set(range(layer.heads)):
                return None
            shares = sources[layer.layer] != layer.layer
            choices.append(None if shares else Choice(heads, edit.topk_of(layer.layer) or layer.topk))
        return None if choices[0] is None else Point(tuple(choices), edit.precision)

    def singles(self, budgets: bool = False) -> Iterator[Point]:
        """The model with one change each: a layer that shares, a smaller k, a head less.

        Args:
            budgets: Every smaller k of a layer, and not one alone.
        """
        places = range(len(self.layers))
        yield from (self.origin.with_choice(place, None) for place in places if place)
        for place in places:
            full, smaller = self.full(place), [k for k in self.layers[place].budgets if k < self.layers[place].topk]
            tried = smaller if budgets else smaller[len(smaller) // 3 : len(smaller) // 3 + 1]
            yield from (self.origin.with_choice(place, full._replace(topk=k)) for k in reversed(tried))
        yield from (replace(self.origin, precision=precision) for precision in self.precisions)
        for place in places:
            full = self.full(place)
            if len(full.heads) > 1:
                yield from (self.origin.with_choice(place, _without(full, head)) for head in full.heads)

    def neighbours(self, point: Point) -> Iterator[Point]:
        """What one step leads to: k one budget up or down, a head less, more or another, sharing or no longer."""
        for place, choice in enumerate(point.choices):
            layer = self.layers[place]
            if choice is None:
                source = point.choices[point.sources[place]]
                assert source is not None
                yield point.with_choice(place, self.full(place)._replace(topk=source.topk))
                continue
            if place:
                yield point.with_choice(place, None)
            budgets = sorted({*layer.budgets, choice.topk})
            at = budgets.index(choice.topk)
            for k in budgets[max(at - 1, 0) : at + 2]:
                if k != choice.topk:
                    yield point.with_choice(place, choice._replace(topk=k))
            gone = [head for head in range(layer.heads) if head not in choice.heads]
            if len(choice.heads) > 1:
                yield from (point.with_choice(place, _without(choice, head)) for head in choice.heads)
            yield from (point.with_choice(place, _with(choice, head)) for head in gone)
            for head in choice.heads:
                for other in gone:
                    yield point.with_choice(place, _with(_without(choice, head), other))
        for precision in (None, *self.precisions):
            if precision != point.precision:
                yield replace(point, precision=precision)


def _without(choice: Choice, head: int) -> Choice:
    return choice._replace(heads=tuple(one for one in choice.heads if one != head))


def _with(choice: Choice, head: int) -> Choice:
    return choice._replace(heads=tuple(sorted((*choice.heads, head))))


def spaced(space: Space, period: int, heads: int, part: float) -> Point:
    """The same everywhere: every so many layers one that selects, the first heads of each, a part of its k.

    Args:
        space: The space.
        period: Layers from one that selects to the next.
        heads: Heads that stay, where there are as many.
        part: Part of k.
    """
    choices: Sequence[Choice | None] = [
        None if place % period else Choice(tuple(range(min(heads, layer.heads))), max(1, round(part * layer.topk)))
        for place, layer in enumerate(space.layers)
    ]
    return Point(tuple(choices))
