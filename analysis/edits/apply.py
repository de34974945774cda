"""Making an edit: the model runs as edited, in every layer, and all later layers see what follows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from transformers import PreTrainedModel

from indexscope.analysis.capture.families import Family, family_of
from indexscope.analysis.capture.indexer import index_dim, index_heads
from indexscope.analysis.capture.selecting import SELECTOR
from indexscope.analysis.edits.check import check_edit
from indexscope.analysis.edits.edit import SCORING, Block, Edit, Learned, Oracle, Random, Recent, TwoStage
from indexscope.analysis.edits.heads import keep_heads
from indexscope.analysis.edits.places import Place, places_of
from indexscope.analysis.edits.putting import put
from indexscope.analysis.edits.scoring import ROUNDED, mark_precision, watch_scoring
from indexscope.analysis.edits.selectors import (
    BestBlocks,
    BestKeys,
    BlocksThenKeys,
    LaidOver,
    RandomKeys,
    RecentKeys,
    Shared,
)
from indexscope.analysis.edits.sharing import SharedSelection, remember_selections
from indexscope.analysis.fitting.selector import SCORER, EmptySelection


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
        _change_indexer(place, edit, undo)
    if isinstance(kind, Learned):
        _share(places, edit, undo)
    else:
        _lay_over(places, family_of(model), edit, undo)


def _change_indexer(place: Place, edit: Edit, undo: ExitStack) -> None:
    """Set k and precision of one layer's indexer, and have it hand on what the selector asks for."""
    topk, asked = edit.topk_of(place.layer), isinstance(edit.selector.kind, TwoStage)
    if place.fitted is not None:
        scorer = place.fitted.scorer
        if topk is not None:
            put(place.fitted, "topk", topk, undo)
        if edit.precision is not None:
            put(scorer, "rounding", ROUNDED[edit.precision], undo)
            mark_precision(scorer, edit.precision, undo)
        if asked:
            put(place.fitted, "hands_on", True, undo)
    elif place.indexer is not None:
        if topk is not None:
            put(place.indexer, "index_topk", topk, undo)
        if edit.precision is not None or asked:
            watch_scoring(place.indexer, edit.precision, undo)


def _lay(place: Place, selector: LaidOver, undo: ExitStack, keeps: bool = False) -> None:
    """Lay a selector over a layer; what was fitted to it goes, unless the selector asks it."""
    if place.fitted is None:
        undo.callback(delattr, place.attention, SELECTOR)
        setattr(place.attention, SELECTOR, selector)
        return
    put(place.attention, SELECTOR, selector, undo)
    if not keeps:
        undo.callback(place.attention.add_module, SCORER, place.fitted.scorer)
        delattr(place.attention, SCORER)


def _share(places: dict[int, Place], edit: Edit, undo: ExitStack) -> None:
    """Replace the indexers of layers that share."""
    sources = edit.sources(places)
    for source in sorted({source for layer, source in sources.items() if source != layer}):
        indexer = places[source].indexer
        if indexer is not None and places[source].fitted is None:
            remember_selections(indexer, source, undo)
    for layer, source in sources.items():
        place, own = places[layer], places[source]
        if source == layer or place.indexer is None or own.indexer is None:
            continue
        if place.fitted is not None:
            _lay(place, Shared(layer=layer, topk=own.topk or 0, source=source), undo)
        else:
            put(place.attention, "indexer", SharedSelection(own.indexer, layer, source), undo)


def _lay_over(places: dict[int, Place], family: Family, edit: Edit, undo: ExitStack) -> None:
    """Lay a selector over every layer; indexers whose scores it does not ask are not run."""
    asks, sources = edit.selector.name in SCORING, edit.sources(places)
    topk, last = 0, 0
    for layer, place in places.items():
        selects = sources[layer] == layer and (place.indexer is not None or not asks)
        # A layer without an indexer in a model that has some takes an earlier layer's selection as it is.
        topk, last = (_topk(place, edit) or topk, layer) if selects else (topk, last)
        selector = _selector(place, edit, topk) if selects else Shared(layer=layer, topk=topk, source=last)
        if place.indexer is not None and place.fitted is None and not (asks and selects):
            put(place.attention, "indexer", EmptySelection(place.indexer, family), undo)
        _lay(place, selector, undo, keeps=asks and selects)


def _topk(place: Place, edit: Edit) -> int | None:
    """Keys that a layer's selector picks; None where neither edit nor indexer say."""
    kind = edit.selector.kind
    if isinstance(kind, Recent):
        return kind.window + kind.sink
    if isinstance(kind, Block):
        return kind.size * kind.keep
    return edit.topk_of(place.layer) or place.topk


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
    scorer = None if place.fitted is None else place.fitted.scorer
    if isinstance(kind, Block):
        return BestBlocks(layer=layer, topk=topk, heads=heads, dim=dim, scorer=scorer, fitted=place.fitted, kind=kind)
    assert isinstance(kind, TwoStage)
    own = place.indexer if place.fitted is None else None
    return BlocksThenKeys(
        layer=layer, topk=topk, heads=heads, dim=dim, scorer=scorer, fitted=place.fitted, kind=kind, indexer=own
    )
