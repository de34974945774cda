"""Fitted indexers laid over a model, in place of its own indexers where it has any."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.dispatched import places as devices
from indexscope.analysis.capture.families import Family, family_of
from indexscope.analysis.capture.indexer import indexers, is_indexer
from indexscope.analysis.capture.interface import running
from indexscope.analysis.capture.model import CapturedModel
from indexscope.analysis.capture.selecting import OPERANDS, SELECTED, SELECTOR, Carried, selector_of
from indexscope.analysis.capture.streaming.model import StreamedModel
from indexscope.analysis.fitting.fitted import FittedIndexer
from indexscope.analysis.fitting.inlet import Inlet
from indexscope.analysis.fitting.places import Places, places_of
from indexscope.analysis.fitting.scorer import LightningScorer

#: Where an attention module keeps its scorer, so that its parameters count as the model's.
SCORER = "indexscope_scorer"
USE_ANOTHER = "fit an indexer to this model"


class FittedSelector:
    """Selects the topk keys by the scores of a lightning indexer; of equal scores the later key goes first.

    Args:
        scorer: The indexer of the layer.
        inlet: What reaches the layer's attention.
        topk: Keys of a query, at most.

    Attributes:
        hands_on: Whether queries, keys and head weights are left for what chooses by other rules from them.
    """

    def __init__(self, scorer: LightningScorer, inlet: Inlet, topk: int) -> None:
        self.inlet, self.topk = inlet, topk
        self.scorer: LightningScorer = scorer
        self.dim: int | None = scorer.head_dim
        self.hands_on = False

    @property
    def stages(self) -> tuple[int | None, int | None]:
        """See `indexscope.analysis.capture.selecting.Selector`."""
        return None, None

    @property
    def heads(self) -> int | None:
        """Indexer heads that are left."""
        return self.scorer.n_heads

    @torch.no_grad()
    def choose(self, chunk: AttentionChunk, carried: Carried) -> AttentionChunk:
        """See `indexscope.analysis.capture.selecting.Selector`."""
        given = self.inlet.take()
        place = (id(self), chunk.layer)
        keys = self.scorer.keys(given)
        if chunk.start and place in carried.chunks:
            keys = torch.cat([carried.chunks[place], keys], 1)
        carried.chunks[place] = keys
        # A cache with a window has let earlier keys go.
        keys = keys[:, keys.shape[1] - chunk.key.shape[2] :]
        eligible = chunk.eligible[:, 0]
        scores = self.scorer(given, keys).masked_fill(~eligible, -torch.inf)
        heads = weights = None
        if running.head_scores:
            heads, weights = self.scorer.head_scores(self.scorer.queries(given), keys), self.scorer.weights(given)
        if self.hands_on:
            carried.layers[OPERANDS, chunk.layer] = self.scorer.queries(given), keys, self.scorer.weights(given)
        selected = carried.layers[SELECTED, chunk.layer] = top(scores, self.topk).unsqueeze(1)
        return replace(
            chunk,
            selected=selected,
            scores=scores,
            entries=None,
            chosen=None,
            always=None,
            head_scores=heads,
            head_weights=weights,
        )


def top(scores: torch.Tensor, k: int) -> torch.Tensor:
    """The k largest finite scores of each row, bool; of equal ones the last go first, however long the row is.

    Args:
        scores: [..., keys]; -inf where there is nothing to select.
        k: How many.

    >>> top(torch.tensor([[1.0, 0.0, 0.0, 2.0, -torch.inf]]), 3)
    tensor([[ True, False,  True,  True, False]])
    """
    known = scores > -torch.inf
    if k >= scores.shape[-1]:
        return known
    edge = scores.topk(k, dim=-1).values[..., -1:]
    at_least = (scores >= edge) & known
    if bool((at_least.sum(-1) <= k).all()):
        return at_least
    above = (scores > edge) & known
    tied = at_least & ~above
    later = tied.flip(-1).cumsum(-1).flip(-1)
    return above | (tied & (later <= k - above.sum(-1, keepdim=True)))


def lay_over(model: PreTrainedModel | CapturedModel, fitted: FittedIndexer, topk: int) -> PreTrainedModel:
    """Have fitted indexers select for a model from now on; its own, if it has any, are taken out.

    Captures then see selection and scores as of a native indexer, and `own_attention` runs the model with them. What
    was laid over it before goes.

    Args:
        model: In eval mode, of the architecture that the indexer was fitted to. One that is read layer by layer
            (`indexscope.analysis.capture.streaming.model.StreamedModel`) has its scorers read with the layers.
        fitted: What `indexscope.storage.inputs.fitted.load_fitted` gives.
        topk: Keys that a query attends to, at most.

    Returns:
        The same model of transformers.

    Raises:
        IndexscopeError: The model is another, its own indexers do not select tokens, or topk is below 1.
    """
    if topk < 1:
        raise IndexscopeError("topk", f"is {topk}", "select at least one key")
    captured = model if isinstance(model, CapturedModel) else CapturedModel(model)
    streamed = captured if isinstance(captured, StreamedModel) else None
    with nullcontext() if streamed is None else streamed.unread():
        places = places_of(captured)
    refuse_others(fitted, places)
    dtype = next(captured.model.parameters()).dtype
    scorers = fitted.scorers() if streamed is None else fitted.scorers_by_layer()
    where = devices(captured.model) if streamed is None else {}
    for layer, scorer in scorers.items():
        device = torch.device("meta") if streamed is not None else where[places.modules[layer]]
        scorer.to(device=device, dtype=dtype).requires_grad_(False).eval()
    attach(captured.model, places, scorers, topk)
    if streamed is not None:
        streamed.changed()
    return captured.model


def refuse_others(fitted: FittedIndexer, places: Places) -> None:
    """Refuse an indexer that was fitted to a model of another shape."""
    for layer, shape in fitted.shapes.items():
        found = places.widths.get(layer)
        if found is None:
            raise IndexscopeError("fitted indexer", f"is for layer {layer}, which has no attention map", USE_ANOTHER)
        wanted = found.latent if shape.source == "latent" else found.hidden
        reach = max(shape.rotary, default=-1)
        if found.hidden != shape.hidden or wanted != shape.query or reach >= found.rotation:
            reason = f"was fitted to another model: layer {layer} is {found.hidden} wide, not {shape.hidden}"
            if found.hidden == shape.hidden:
                reason = f"was fitted to another model: layer {layer} has another query latent or rotation"
            raise IndexscopeError("fitted indexer", reason, USE_ANOTHER)
    lacking = [layer for layer in places.first if layer not in fitted.shapes]
    if lacking and places.family is not None:
        reason = f"has nothing for layer {lacking[0]}, whose own indexer it would replace"
        raise IndexscopeError("fitted indexer", reason, "fit one to all layers")


def attach(model: PreTrainedModel, places: Places, scorers: Mapping[int, LightningScorer], topk: int) -> None:
    """Lay scorers over the attention of their layers, in place of what was there."""
    lift(model)
    replace_indexers(model, places)
    for layer, scorer in scorers.items():
        module = places.modules[layer]
        module.add_module(SCORER, scorer)
        setattr(module, SELECTOR, FittedSelector(scorer, Inlet(module), topk))


def lift(model: nn.Module) -> None:
    """Take off what `lay_over` laid over a model; own indexers that it took out stay out."""
    for module in list(model.modules()):
        selector = selector_of(module)
        if isinstance(selector, FittedSelector):
            selector.inlet.close()
            delattr(module, SELECTOR)
            delattr(module, SCORER)


class EmptySelection(nn.Module):
    """Stands where an indexer was: selects nothing, at no cost. Its name is no indexer's, or it would be taken for one.

    Args:
        indexer: What was there.
        family: Its family.
    """

    def __init__(self, indexer: nn.Module, family: Family) -> None:
        super().__init__()
        self._signature = inspect.signature(type(indexer).forward)
        self._skip = family.skip

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What an indexer that scores nothing returns."""
        assert self._skip is not None
        return self._skip(self._signature.bind(self, *args, **kwargs).arguments)


def replace_indexers(model: PreTrainedModel, places: Places) -> None:
    """Take a model's own indexers out."""
    if not indexers(model):
        return
    family = family_of(model)
    for module in places.modules.values():
        for name, child in list(module.named_children()):
            if is_indexer(child):
                setattr(module, name, EmptySelection(child, family))
