"""What of an edit a family's configuration can say, so that transformers makes the edited model by itself."""

from __future__ import annotations

from collections.abc import Iterator

from transformers import PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.edits.places import places_of

RUN = "run it as an edit in a study instead, or leave that out"


def configured(model: PreTrainedModel, edit: Edit) -> dict[str, object]:
    """The keys of a model's text configuration that make it the edited one, with the weights that the edit leaves.

    Args:
        model: Before the edit.
        edit: One that the model can take.

    Raises:
        IndexscopeError: The configuration has no key for a part of it.
    """
    problem = next(_problems(model, edit), None)
    if problem is not None:
        raise IndexscopeError(*problem, RUN)
    config, places = model.config.get_text_config(decoder=True), places_of(model)
    changes: dict[str, object] = {}
    if edit.indexer_heads:
        changes["index_n_heads"] = len(next(iter(edit.indexer_heads.values())))
    if edit.topk:
        changes["index_topk"] = next(iter(edit.topk.values()))
    if edit.share:
        kinds = list(config.indexer_types)
        for layer, source in edit.sources(places).items():
            kinds[layer] = "full" if layer == source else "shared"
        changes["indexer_types"] = kinds
    return changes


def _problems(model: PreTrainedModel, edit: Edit) -> Iterator[tuple[str, str]]:
    config, places, family = model.config.get_text_config(decoder=True), places_of(model), str(model.config.model_type)
    sources = edit.sources(places)
    own = [layer for layer, place in places.items() if place.indexer is not None and sources[layer] == layer]
    if edit.selector.name != "learned":
        yield "edit.selector", f"no configuration of transformers has the selector {edit.selector.name}"
    if edit.precision is not None:
        yield "edit.precision", "no configuration of transformers says in what precision an indexer scores"
    counts = {layer: len(edit.indexer_heads.get(layer, ())) for layer in own}
    if edit.indexer_heads and len(set(counts.values())) > 1:
        yield "edit.indexer_heads", f"config.json of {family} has one number of indexer heads for all layers"
    if len(set(edit.topk.values())) > 1 or (edit.topk and any(edit.topk_of(layer) is None for layer in own)):
        yield "edit.topk", f"config.json of {family} has one number of keys for all layers"
    if edit.share and getattr(config, "indexer_types", None) is None:
        yield "edit.share", f"config.json of {family} has no layers that share a selection"
