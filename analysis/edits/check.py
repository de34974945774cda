"""Refusing edits that a model cannot take, before it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from transformers import PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.edits.edit import SCORING, Edit
from indexscope.analysis.edits.places import Place


def check_edit(model: PreTrainedModel, places: Mapping[int, Place], edit: Edit) -> None:
    """Refuse an edit that cannot be made, or part of which would do nothing.

    Args:
        model: Its weights are not looked at.
        places: As `indexscope.analysis.edits.places.places_of` gives them.
        edit: The edit.

    Raises:
        IndexscopeError: It names the key, the reason and the remedy.
    """
    problem = next(_problems(model, places, edit), None)
    if problem is not None:
        raise problem


def _problems(model: PreTrainedModel, places: Mapping[int, Place], edit: Edit) -> Iterator[IndexscopeError]:
    yield from _of_selector(places, edit)
    yield from _of_share(int(model.config.get_text_config(decoder=True).num_hidden_layers), places, edit)
    sources, own = edit.sources(places), [layer for layer, place in places.items() if place.indexer is not None]
    for layer, heads in edit.indexer_heads.items():
        where = f"edit.indexer_heads.{layer}"
        indexer = places[layer].indexer if layer in places else None
        if indexer is None:
            yield IndexscopeError(where, f"layer {layer} has no indexer", f"name layers of {_some(own)}")
            continue
        count = int(indexer.n_heads)  # type: ignore[arg-type]
        if heads[-1] >= count:
            reason = f"there is no indexer head {heads[-1]}; layer {layer} has {count}, counted from 0"
            yield IndexscopeError(where, reason, f"name heads below {count}")
        if sources[layer] != layer:
            reason = f"layer {layer} takes the selection of layer {sources[layer]}, so that its heads select nothing"
            yield IndexscopeError(where, reason, "remove it, or write F for the layer in share")
    for named in edit.topk:
        if not isinstance(named, int):
            continue
        where = f"edit.topk.{named}"
        if named not in places:
            reason = f"there is no layer {named} that selects"
            yield IndexscopeError(where, reason, f"name layers of {_some(list(places))}")
        elif sources[named] != named:
            reason = f"layer {named} takes the selection of layer {sources[named]}, with the number of keys of that"
            yield IndexscopeError(where, reason, "remove it, or write F for the layer in share")
        elif own and places[named].indexer is None:
            reason = f"layer {named} takes an earlier layer's selection, with the number of keys of that"
            yield IndexscopeError(where, reason, f"name layers of {_some(own)}")


def _of_selector(places: Mapping[int, Place], edit: Edit) -> Iterator[IndexscopeError]:
    name, scored = edit.selector.name, any(place.indexer is not None for place in places.values())
    if not scored and name in SCORING:
        kinds = "oracle, random or recent"
        if name == "learned":
            reason = "the model has no indexer whose selection an edit could change"
            yield IndexscopeError("edit.selector", reason, f"choose the selector {kinds}, or fit an indexer")
        else:
            yield IndexscopeError(
                "edit.selector", f"{name} needs index scores; the model has no indexer", f"choose {kinds}"
            )
    if name not in SCORING:
        for key in ("indexer_heads", "precision"):
            if getattr(edit, key):
                reason = f"does nothing where the selector is {name}, which asks no indexer"
                yield IndexscopeError(f"edit.{key}", reason, "remove it, or the selector")
    if name in ("recent", "block") and edit.topk:
        keys = "window and sink" if name == "recent" else "size and keep"
        yield IndexscopeError("edit.topk", f"the keys of the selector {name} follow from its {keys}", "remove topk")
    elif not scored and name in ("oracle", "random"):
        without = [layer for layer in places if edit.topk_of(layer) is None and edit.sources(places)[layer] == layer]
        if without:
            reason = f"the model has no indexer that says how many keys layer {without[0]} selects"
            yield IndexscopeError("edit.topk", reason, "add topk: a number")


def _of_share(layers: int, places: Mapping[int, Place], edit: Edit) -> Iterator[IndexscopeError]:
    if not edit.share:
        return
    if len(edit.share) != layers:
        reason = f"has {len(edit.share)} letters for {layers} layers"
        yield IndexscopeError("edit.share", reason, "write one letter a layer, F or S")
        return
    first = next(iter(places))
    if edit.share[first] == "S":
        reason = f"layer {first} is the first that selects and has none before it to share with"
        yield IndexscopeError("edit.share", reason, f"write F at place {first}, counted from 0")
    scored = any(place.indexer is not None for place in places.values())
    for layer, place in places.items():
        if scored and place.indexer is None and edit.share[layer] == "F":
            reason = f"layer {layer} has no indexer of its own to select with"
            yield IndexscopeError("edit.share", reason, f"write S at place {layer}, counted from 0")


def _some(layers: list[int]) -> str:
    return ", ".join(map(str, layers)) or "no layer: the model has no indexer"
