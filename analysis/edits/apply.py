"""Making an edit: the model runs as edited, in every layer, and all later layers see what follows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from transformers import PreTrainedModel

from indexscope.analysis.capture.indexer import index_dim, index_heads
from indexscope.analysis.capture.selecting import SELECTOR
from indexscope.analysis.edits.check import check_edit
from indexscope.analysis.edits.edit import SCORING, Block, Edit, Learned, Oracle, Random, Recent, TwoStage
from indexscope.analysis.edits.heads import keep_heads
from indexscope.analysis.edits.places import Place, places_of
from indexscope.analysis.edits.scoring import watch_scoring
from indexscope.analysis.edits.selectors import (
    BestBlocks,
    BestKeys,
    BlocksThenKeys,
    LaidOver,
    RandomKeys,
    RecentKeys,
    Shared,
)
from indexscope.analysis.edits.sharing import NoSelection, SharedSelection, remember_selections, replace_indexer


def apply_edit(model: PreTrainedModel, edit: Edit) -> None:
    """Change a model in place, for good.

    Raises:
        IndexscopeError: The model cannot be changed so; it is as it was.
    """
    with ExitStack() as undo:
        _change(model, edit, undo)
        undo.pop_all()


@contextmanager
def edited(model: PreTrainedModel, edit: Edit) -> Iterator[PreTrainedModel]:
    """A model that is changed within the block, and as it was, to the bit, after it.

    Raises:
        IndexscopeError: The model cannot be changed so.
    """
    with ExitStack() as undo:
        _change(model, edit, undo)
        yield model


def _change(model: PreTrainedModel, edit: Edit, undo: ExitStack) -> None:
    places = places_of(model)
    check_edit(model, places, edit)
    for layer, heads in edit.indexer_heads.items():
        indexer = places[layer].indexer
        assert indexer is not None
        keep_heads(indexer, heads, undo)
    kind = edit.selector.kind
    for place in places.values():
        topk = edit.topk_of(place.layer)
        if place.indexer is not None and topk is not None:
            undo.callback(setattr, place.indexer, "index_topk", place.indexer.index_topk)
            place.indexer.index_topk = topk  # type: ignore[assignment]
        if place.indexer is not None and (edit.precision is not None or isinstance(kind, TwoStage)):
            watch_scoring(place.indexer, edit.precision, undo)
    if isinstance(kind, Learned):
        _share(places, edit, undo)
    else:
        _lay_over(places, edit, undo)


def _share(places: dict[int, Place], edit: Edit, undo: ExitStack) -> None:
    """Replace the indexers of layers that share."""
    sources = edit.sources(places)
    for source in sorted({source for layer, source in sources.items() if source != layer}):
        indexer = places[source].indexer
        assert indexer is not None
        remember_selections(indexer, undo)
    for layer, source in sources.items():
        own = places[source].indexer
        if source != layer and places[layer].indexer is not None and own is not None:
            replace_indexer(places[layer].attention, SharedSelection(own), undo)


def _lay_over(places: dict[int, Place], edit: Edit, undo: ExitStack) -> None:
    """Lay a selector over every layer; indexers whose scores it does not ask are not run."""
    asks, sources = edit.selector.name in SCORING, edit.sources(places)
    topk, last = 0, 0
    for layer, place in places.items():
        selects = sources[layer] == layer and (place.indexer is not None or not asks)
        # A layer without an indexer in a model that has some takes an earlier layer's selection as it is.
        topk, last = (_topk(place, edit) or topk, layer) if selects else (topk, last)
        selector = _selector(place, edit, topk) if selects else Shared(layer=layer, topk=topk, source=last)
        if place.indexer is not None and not (asks and selects):
            replace_indexer(place.attention, NoSelection(), undo)
        setattr(place.attention, SELECTOR, selector)
        undo.callback(delattr, place.attention, SELECTOR)


def _topk(place: Place, edit: Edit) -> int | None:
    """Keys that a layer's selector picks; None where neither edit nor indexer say."""
    kind = edit.selector.kind
    if isinstance(kind, Recent):
        return kind.window + kind.sink
    if isinstance(kind, Block):
        return kind.size * kind.keep
    return edit.topk_of(place.layer) or (None if place.indexer is None else int(place.indexer.index_topk))  # type: ignore[arg-type]


def _selector(place: Place, edit: Edit, topk: int) -> LaidOver:
    kind, layer = edit.selector.kind, place.layer
    if isinstance(kind, Oracle):
        return BestKeys(layer=layer, topk=topk)
    if isinstance(kind, Random):
        return RandomKeys(layer=layer, topk=topk, seed=kind.seed)
    if isinstance(kind, Recent):
        return RecentKeys(layer=layer, topk=topk, kind=kind)
    assert place.indexer is not None
    heads, dim = index_heads(place.indexer), index_dim(place.indexer)
    if isinstance(kind, Block):
        return BestBlocks(layer=layer, topk=topk, heads=heads, dim=dim, kind=kind)
    assert isinstance(kind, TwoStage)
    return BlocksThenKeys(layer=layer, topk=topk, heads=heads, dim=dim, kind=kind, indexer=place.indexer)
