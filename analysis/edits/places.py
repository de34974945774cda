"""Where in a model an edit may take hold: its attention modules and their indexers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.capture.families import KNOWN, family_of
from indexscope.analysis.capture.indexer import indexers, is_indexer
from indexscope.analysis.capture.interface import layer_of
from indexscope.analysis.capture.selecting import selector_of
from indexscope.analysis.fitting.selector import FittedSelector

#: What configurations call layers that see a part of the context whatever anyone selects.
LOCAL = ("sliding", "chunked")


@dataclass(frozen=True)
class Place:
    """One layer that an edit may change.

    Attributes:
        layer: Index of the layer.
        attention: Its attention module.
        indexer: Its own indexer, or the scorer of one that was fitted to it; None in a dense layer, and in one that
            shares an earlier layer's selection.
        fitted: The selector that was laid over it with that scorer.
    """

    layer: int
    attention: nn.Module
    indexer: nn.Module | None
    fitted: FittedSelector | None = None

    @property
    def topk(self) -> int | None:
        """Keys that it selects for a query."""
        if self.fitted is not None:
            return self.fitted.topk
        return None if self.indexer is None else int(self.indexer.index_topk)  # type: ignore[arg-type]


def places_of(model: PreTrainedModel) -> dict[int, Place]:
    """The layers of a model that select, by index; in a model without indexers, all that see the whole context.

    Found by name and structure alone, so that a model without weights (on the meta device) can be asked.

    Raises:
        IndexscopeError: Its indexers score pools or blocks of tokens, are of no known family, or no attention is found.
    """
    found = family_of(model)
    paths = {module: path for path, module in model.named_modules()}
    attentions = [module for module in paths if type(module).__name__.endswith("Attention")]
    kinds = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or []
    whole = {}
    for module in attentions:
        layer = layer_of(module, paths[module])
        # Some families give every layer a window and let the configuration say which have one.
        kind = str(kinds[layer]) if layer < len(kinds) else None
        windowed = getattr(module, "sliding_window", None) is not None
        if not (windowed if kind is None else any(word in kind for word in LOCAL)):
            whole[module] = layer
    own = {module: _indexer(module) for module in whole if hasattr(module, "indexer")}
    if indexers(model):
        known = found in KNOWN.values()
        if not known or found.kind != "token":
            scored = f"score a {found.kind} as one entry" if known else "are of a family that is not known"
            raise IndexscopeError(
                str(model.config.model_type),
                f"its indexers {scored}",
                "edit a model whose indexers score single tokens",
            )
        whole = {module: layer for module, layer in whole.items() if module in own}
    places = {layer: _place(layer, module, own.get(module)) for module, layer in whole.items()}
    if not places:
        raise IndexscopeError(
            str(model.config.model_type), "has no layer that sees the whole context", "use another model"
        )
    return dict(sorted(places.items()))


def _place(layer: int, attention: nn.Module, indexer: nn.Module | None) -> Place:
    laid = selector_of(attention)
    if isinstance(laid, FittedSelector):
        return Place(layer, attention, laid.scorer, laid)
    return Place(layer, attention, indexer)


def _indexer(attention: nn.Module) -> nn.Module | None:
    found = attention.indexer
    return found if isinstance(found, nn.Module) and is_indexer(found) else None
