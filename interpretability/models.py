"""Whatever a notebook calls a model, as a `Source` that the analyses can watch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from indexscope import IndexscopeError
from indexscope.analysis.capture import CapturedModel, LayerTrace, Source, Trace, TracedModel, as_source
from indexscope.analysis.capture.indexer import TOPK, Seen, WatchTopk, index_topk, indexers
from indexscope.analysis.capture.site import heads_of
from indexscope.analysis.capture.trace import causal_mask, selection_mask
from indexscope.analysis.capture.watching import takes_input_ids

#: Token ids of a model that does not tell its vocabulary are not checked against one.
ANY = 2**31 - 1
#: What indexers and their modules call the keys that a query selects.
_BUDGETS = ("index_topk", "sparse_top_k", "topk", "top_k", "k")
#: What a call with a batch that a model does not take ends in.
_REFUSALS = (TypeError, RuntimeError, AttributeError, KeyError, IndexError, ValueError)
ACCEPTED = (
    "give a causal model of transformers, a model with get_attention_weights and get_selected_tokens, one with trace "
    "(docs/protocol.md), a module whose forward takes input_ids and returns logits, or one with an indexer"
)


@dataclass
class Subject:
    """A model that is being watched.

    Attributes:
        name: What results call it.
        source: Its layers.
        shown: What stands between the source and a model outside transformers' captures and the protocol, else None.
    """

    name: str
    source: Source
    shown: Shown | None = None

    @property
    def knows_attention(self) -> bool:
        """Whether dense attention was seen; without it nothing can be said of what a selection misses."""
        return self.shown is None or self.shown.dense

    @property
    def takes_hidden(self) -> bool:
        """Whether a batch may be hidden states, [B, S, width], instead of token ids."""
        return isinstance(self.shown, IndexerModule)


@contextmanager
def watched(model: object, name: str | None = None) -> Iterator[Subject]:
    """Watch a model within the block, in eval mode; afterwards it is as it was.

    Args:
        model: See `ACCEPTED`. One with ``trace`` is asked for that, a model of transformers is captured, whatever
            else they have; of a module whose forward takes ``input_ids`` the attention is watched, of others the
            indexer alone.
        name: What results call it; by default its class or the last part of the path that it was loaded from.

    Raises:
        TypeError: It is no model.
        IndexscopeError: It is one that cannot be watched, or has no indexer.
    """
    training = [module for module in model.modules() if module.training] if isinstance(model, nn.Module) else []
    config = model.config.get_text_config(decoder=True) if isinstance(model, PreTrainedModel) else None
    attention = None if config is None else config._attn_implementation
    try:
        for module in training:
            module.training = False
        yield _subject(model, name or _name(model))
    finally:
        for module in training:
            module.training = True
        if isinstance(model, PreTrainedModel) and config is not None and config._attn_implementation != attention:
            model.set_attn_implementation(attention)


def _subject(model: Any, name: str) -> Subject:
    # A class of one's own may select without an indexer of transformers' kind, and show it.
    shows = callable(getattr(model, "get_selected_tokens", None))
    captured = isinstance(model, PreTrainedModel) and (bool(indexers(model)) or not shows)
    if captured or callable(getattr(model, "trace", None)) or isinstance(model, CapturedModel | TracedModel):
        source = as_source(model)
    elif (watching := _watching(model)) is not None:
        source = watching
    else:
        shown = _shown(model)
        told = _number(model, "vocabulary", "vocab_size") or ANY
        # Its k is asked for nothing but the budget of a measure that the notebook does not show.
        source = TracedModel(shown, told, _number(model, *_BUDGETS) or 1, _number(model, "max_length"))
        source.family = type(model).__name__
        return Subject(name, source, shown)
    if not source.has_indexer:
        remedy = "give a model with one; for attention alone take PatternAnalyzer and AttentionVisualizer"
        raise IndexscopeError(name, "has no indexer", remedy)
    return Subject(name, source)


def _watching(model: object) -> Source | None:
    """A module whose forward is watched; None where it shows more itself, or has an indexer that alone is seen.

    Raises:
        IndexscopeError: Its forward takes ``input_ids``, but cannot be watched, and there is no indexer.
    """
    if not isinstance(model, nn.Module) or any(
        callable(getattr(model, name, None)) for name in ("get_selected_tokens", "get_attention_weights")
    ):
        return None
    named, indexed = takes_input_ids(model), bool(_indexers_of(model))
    if indexed and not named:
        return None  # it may be a module of hidden states
    try:
        source = as_source(model)
    except IndexscopeError:
        if named and not indexed:
            raise
        return None
    return None if indexed and not source.has_indexer else source


def _shown(model: object) -> Shown:
    if callable(getattr(model, "get_selected_tokens", None)):
        return WeightsModel(model)
    if callable(getattr(model, "get_attention_weights", None)):
        remedy = "add the method; for attention alone take PatternAnalyzer and AttentionVisualizer"
        raise IndexscopeError(type(model).__name__, "has no get_selected_tokens", remedy)
    if _indexers_of(model) or callable(getattr(model, "indexer", None)):
        return IndexerModule(model)
    raise TypeError(f"{type(model).__name__}: is no model with an indexer; {ACCEPTED}")


class Shown:
    """Gives a trace of a model that has none: what the model shows of its selection, and no predictions.

    Attributes:
        dense: Whether dense attention has been seen. Uniform attention stands in for it where there is none; whoever
            reads the features must then leave out what rests on it.
        as_mapping: Whether the model takes {"input_ids": ...} rather than a tensor.
        device: Where the batches are; a module with parameters gets its ids where these are.
        hidden: Hidden states by sample, [S, width], where those are the batches; ids are then the sample's index.
        notes: What had to be left out, and why.
    """

    def __init__(self, model: object) -> None:
        self.model, self.name = model, type(model).__name__
        self.dense = False
        self.as_mapping = False
        self.device = torch.device("cpu")
        self.hidden: dict[int, torch.Tensor] = {}
        self.notes: list[str] = []

    def trace(self, input_ids: torch.Tensor) -> Trace:
        """What the layers of one forward over input_ids [B, S] show; logits of width 0."""
        layers = [_on_cpu(layer) for layer in self.layers(input_ids)]
        return Trace(logits=torch.zeros((*input_ids.shape, 0)), layers=layers)

    def layers(self, input_ids: torch.Tensor) -> list[LayerTrace]:
        """One trace a layer."""
        raise NotImplementedError

    def given(self, input_ids: torch.Tensor) -> object:
        """The batch as the model takes it."""
        if self.hidden:
            return torch.stack([self.hidden[int(row[0])] for row in input_ids])
        first = next(iter(self.model.parameters()), None) if isinstance(self.model, nn.Module) else None
        ids = input_ids.to(self.device if first is None else first.device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)} if self.as_mapping else ids

    def note(self, line: str) -> None:
        """Remember why something is left out, once."""
        if line not in self.notes:
            self.notes.append(line)


class WeightsModel(Shown):
    """A model with ``get_attention_weights(batch)`` and ``get_selected_tokens(batch)``.

    Weights are [B, H, S, S] (a list of them or [L, B, H, S, S] for several layers); selected tokens are a mask
    [B, S, S] or [B, H, S, S], or indices [B, S, k] or [B, H, S, k] with -1 for none; ``get_index_scores(batch)`` is
    optional, [B, S, S]. Weights that are zero outside the selection are those after it: of dense attention they say
    nothing. Indices of keys after their query drop out, since before n_t reaches k there is nothing else to pick.
    """

    def layers(self, input_ids: torch.Tensor) -> list[LayerTrace]:
        """See `Shown.layers`.

        Raises:
            IndexscopeError: What the model shows does not fit the batch, or selects the future.
        """
        given, shape = self.given(input_ids), _shape(input_ids)
        chosen = [
            _selection(f"{self.name}.get_selected_tokens layer {index}", each, shape)
            for index, each in enumerate(_by_layer(self._ask("get_selected_tokens", given), 4))
        ]
        if not chosen:
            raise IndexscopeError(f"{self.name}.get_selected_tokens", "shows nothing", "give a mask or indices")
        weights = _by_layer(self._ask("get_attention_weights", given), 4)
        scores = _by_layer(self._ask("get_index_scores", given), 3)
        count = max(len(chosen), len(weights))
        for what, parts in (("get_selected_tokens", chosen), ("get_attention_weights", weights), ("scores", scores)):
            if len(parts) not in (0, 1, count):
                reason = f"shows {len(parts)} layers in {what} and {count} elsewhere"
                raise IndexscopeError(self.name, reason, "give as many of each")
        return [
            self._layer(chosen[index % len(chosen)], _at(weights, index), _at(scores, index), shape)
            for index in range(count)
        ]

    def _layer(
        self, chosen: torch.Tensor, weights: torch.Tensor | None, scores: torch.Tensor | None, shape: tuple[int, int]
    ) -> LayerTrace:
        batch, length = shape
        dense = weights is not None and not self.notes and not _after_selection(weights, chosen)
        self.dense = dense
        if weights is not None and not dense:
            self.note(
                f"{self.name}: its attention weights are zero outside its selection, so that they are no dense "
                "attention; recall and whatever else rests on that is null"
            )
        if weights is None:
            self.note(f"{self.name}: shows no attention weights; recall and whatever else rests on them is null")
        heads = chosen.shape[1] if chosen.dim() == 4 else 1
        if scores is not None and chosen.dim() == 4 and scores.dim() == 3:
            scores = scores.unsqueeze(1).expand(-1, heads, -1, -1)
        if dense:
            return LayerTrace(probabilities=weights, selected=chosen, scores=scores)
        nothing = torch.zeros((batch, heads, length, 1), device=chosen.device)
        return LayerTrace(query=nothing, key=nothing, scale=1.0, selected=chosen, scores=scores)

    def _ask(self, method: str, given: object) -> Any:
        """What a method of the model answers, None where it has none."""
        function: Callable[[object], object] | None = getattr(self.model, method, None)
        return None if function is None else function(given)


class IndexerModule(Shown):
    """A model with an ``indexer``, called with the batch; its attention is not looked at.

    Where the model's forward does not reach its indexer, ``indexer(batch)`` is called by itself. The indexer's scores
    are what goes into its ``topk``, or what it returns where the module around it selects: [B, S, S], or [B, heads, S,
    S], of which the sum over heads selects. Else its heads are seen where a ReLU and one product with weights make the
    score, as in DeepSeek-V3.2.
    """

    def __init__(self, model: object) -> None:
        super().__init__(model)
        self.note(
            f"{self.name}: only its indexer is seen, not its attention; recall and whatever else rests on attention "
            "is null"
        )

    def layers(self, input_ids: torch.Tensor) -> list[LayerTrace]:
        """See `Shown.layers`.

        Raises:
            IndexscopeError: The module cannot be called with the batch, its indexer does not run, or scores no keys.
        """
        given, failed = self.given(input_ids), None
        found: list[_Call] = []
        if callable(self.model):
            try:
                with _spied(_indexers_of(self.model), found):
                    self.model(given)
            except _REFUSALS as error:
                failed = error
                found.clear()
        if not found:
            found += self._alone(given)
        if not found and failed is not None:
            reason = f"cannot be called with the batch ({str(failed).partition(chr(10))[0]})"
            raise IndexscopeError(self.name, reason, "give batches as its forward takes them") from failed
        if not found:
            raise IndexscopeError(self.name, "did not call its indexer", "give the module that calls it")
        return [self._layer(call, _shape(input_ids)) for call in found]

    def _alone(self, given: object) -> list[_Call]:
        """The call of the model's own ``indexer`` by itself; none where it has none, or it does not take the batch."""
        indexer = getattr(self.model, "indexer", None)
        if not callable(indexer):
            return []
        try:
            with _Spy() as watch:
                result = indexer(given)
        except _REFUSALS:
            return []
        return [_Call(Seen(indexer, "indexer", watch.calls, watch.heads, watch.weights), watch.picked, result)]

    def _layer(self, call: _Call, shape: tuple[int, int]) -> LayerTrace:
        where, (batch, length) = f"{self.name} {call.seen.path}".rstrip(), shape
        wanted = (batch, length, length)
        single = None if call.seen.scores else _head_scores_in(call.result, wanted)
        raw: torch.Tensor | None
        if single is not None:
            raw = single.sum(1)
            if bool((single.tril() < 0).any()):
                self.note(
                    f"{where}: scores of single heads go below 0, as none after a ReLU do; they are added up as they "
                    "are, and a head's share of the score is not one of a whole"
                )
        else:
            raw = call.seen.scores[-1] if call.seen.scores else _scores_in(call.result, wanted)
        if raw is None or tuple(raw.shape) != wanted:
            told = "selects without torch.topk and returns no scores" if raw is None else f"scores {list(raw.shape)}"
            raise IndexscopeError(where, f"{told}, not [{batch}, {length}, {length}]", "see docs/protocol.md")
        causal = causal_mask(length, raw.device)
        # Masks are -inf or the lowest number of the type.
        masked = raw.float()
        masked = masked.masked_fill(masked <= torch.finfo(raw.dtype).min / 2, -torch.inf)
        if call.picked:
            picked = call.picked[-1]
        else:
            # The module around it masks and selects, which is not seen.
            masked = masked.masked_fill(~causal, -torch.inf)
            picked = self._topk(call.seen.indexer, masked, where)
        leaks = (selection_mask(picked, length)[:, 0] & ~causal & ~masked.isneginf()).sum()
        if leaks:
            reason = f"selects {int(leaks)} keys that come after their query"
            raise IndexscopeError(where, reason, "mask the scores of future keys before topk")
        heads: torch.Tensor | None
        weights: torch.Tensor | None
        if single is not None:
            heads, weights = single.masked_fill(single.isneginf() | ~causal, 0.0).transpose(1, 2), None
        else:
            heads, weights = heads_of(call.seen, masked)
        nothing = torch.zeros((batch, 1, length, 1), device=raw.device)
        return LayerTrace(
            query=nothing, key=nothing, scale=1.0, scores=masked.masked_fill(~causal, -torch.inf), selected=picked,
            head_scores=heads, head_weights=weights,
        )  # fmt: skip

    def _topk(self, indexer: nn.Module, scores: torch.Tensor, where: str) -> torch.Tensor:
        k = index_topk(indexer) or _number(indexer, *_BUDGETS) or _number(self._around(indexer), *_BUDGETS)
        k = k or _number(self.model, *_BUDGETS)
        if k is None:
            reason = f"does not select, and no {', '.join(_BUDGETS)} tells how many keys are taken of its scores"
            raise IndexscopeError(
                where, reason, "set one of them on the indexer, the model, its selector or its config"
            )
        return scores.topk(min(k, scores.shape[-1])).indices

    def _around(self, indexer: nn.Module) -> object:
        """The module that an indexer is a part of."""
        modules = self.model.modules() if isinstance(self.model, nn.Module) else ()
        return next((each for each in modules if any(part is indexer for part in each.children())), None)


@dataclass
class _Call:
    """One call of an indexer: what was seen inside, what its topk picked, and what it returned."""

    seen: Seen
    picked: list[torch.Tensor]
    result: object


class _Spy(WatchTopk):
    """Also remembers what ``topk`` picked."""

    def __init__(self) -> None:
        super().__init__(heads=True)
        self.picked: list[torch.Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        if func in TOPK:
            self.picked.append(result.indices)
        return result


@contextmanager
def _spied(found: Mapping[str, nn.Module], calls: list[_Call]) -> Iterator[None]:
    """Have indexers report their calls within the block."""

    def spy(path: str, indexer: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*args: Any, **kwargs: Any) -> Any:
            with _Spy() as watch:
                result = forward(*args, **kwargs)
            seen = Seen(indexer, path, watch.calls, watch.heads, watch.weights)
            calls.append(_Call(seen, watch.picked, result))
            return result

        return watching

    own = {path: indexer.__dict__["forward"] for path, indexer in found.items() if "forward" in indexer.__dict__}
    try:
        for path, indexer in found.items():
            indexer.forward = spy(path, indexer, indexer.forward)
        yield
    finally:
        for path, indexer in found.items():
            del indexer.forward
            if path in own:
                indexer.forward = own[path]


def _indexers_of(module: object) -> dict[str, nn.Module]:
    """The indexers within a module by path: whatever is called ``indexer``, and classes named *Indexer*."""
    if not isinstance(module, nn.Module):
        return {}
    named = {path: each for path, each in module.named_modules() if path.rpartition(".")[2] == "indexer"}
    classes = set(indexers(module)) - set(named.values())
    return named | {path: each for path, each in module.named_modules() if each in classes}


def _scores_in(result: object, shape: tuple[int, ...]) -> torch.Tensor | None:
    """The floating-point tensor of this shape that an indexer returned, if any."""
    parts = result if isinstance(result, tuple | list) else [result]
    tensors = (part for part in parts if isinstance(part, torch.Tensor) and part.is_floating_point())
    return next((part for part in tensors if tuple(part.shape) == shape), None)


def _head_scores_in(result: object, shape: tuple[int, int, int]) -> torch.Tensor | None:
    """Scores of single heads, [B, heads, S, S], that an indexer returned, float32 with -inf where masked, if any."""
    batch, length, _ = shape
    parts = result if isinstance(result, tuple | list) else [result]
    tensors = (part for part in parts if isinstance(part, torch.Tensor) and part.is_floating_point())
    for part in tensors:
        if part.dim() == 4 and (part.shape[0], *part.shape[2:]) == (batch, length, length):
            return part.float().masked_fill(part <= torch.finfo(part.dtype).min / 2, -torch.inf)
    return None


def _by_layer(shown: Any, rank: int) -> list[torch.Tensor]:
    """One tensor a layer, of what a model shows as a tensor, with a leading layer dimension, or as a collection."""
    if shown is None:
        return []
    if isinstance(shown, Mapping):
        return [torch.as_tensor(part) for part in shown.values()]
    if isinstance(shown, Sequence) and not isinstance(shown, str):
        return [torch.as_tensor(part) for part in shown]
    tensor = torch.as_tensor(shown)
    return list(tensor.unbind(0)) if tensor.dim() > rank else [tensor]


def _selection(where: str, given: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Selected tokens as a bool mask or integer indices of the protocol, [B, (H,) S, S or k].

    Raises:
        IndexscopeError: They are neither, of other sequences, or a mask that selects the future.
    """
    batch, length = shape
    chosen = given.unsqueeze(0) if given.dim() == 2 else given
    if chosen.dim() not in (3, 4) or (chosen.shape[0], chosen.shape[-2]) != shape:
        reason = f"has shape {list(given.shape)}"
        remedy = f"give a mask [{batch}, {length}, {length}] or indices [{batch}, {length}, k]"
        raise IndexscopeError(where, reason, remedy)
    # As many indices as keys would go up to the last key; ones and zeros are a mask.
    if chosen.dtype != torch.bool and chosen.shape[-1] == length > 2 and bool(((chosen == 0) | (chosen == 1)).all()):
        chosen = chosen.bool()
    if chosen.is_floating_point():
        raise IndexscopeError(where, f"is {chosen.dtype}", "give a mask of ones and zeros, or integer indices")
    if chosen.dtype == torch.bool:
        future = torch.ones((length, length), dtype=torch.bool, device=chosen.device).triu(1)
        leaks = int((chosen & future).sum()) if chosen.shape[-1] == length else 0
        if leaks:
            raise IndexscopeError(where, f"selects {leaks} keys that come after their query", "mask future keys")
    return chosen


def _after_selection(weights: torch.Tensor, chosen: torch.Tensor) -> bool:
    """Whether weights [B, H, S, S] are zero on all eligible keys that the selection leaves out, if it leaves any."""
    length = chosen.shape[-2]
    mask = selection_mask(chosen, length)
    left_out = ~mask & causal_mask(length, mask.device)
    if weights.dim() != 4 or weights.shape[2:] != (length, length) or weights.shape[1] % left_out.shape[1]:
        return False  # the protocol's own check says what is wrong
    left_out = left_out.repeat_interleave(weights.shape[1] // left_out.shape[1], 1).to(weights.device)
    return bool(left_out.any()) and not bool((weights * left_out).any())


def _on_cpu(layer: LayerTrace) -> LayerTrace:
    """The same where the features of a trace are computed, wherever the model is."""
    moved: dict[str, Any] = {name: part.cpu() for name, part in vars(layer).items() if isinstance(part, torch.Tensor)}
    return replace(layer, **moved)


def _at(parts: Sequence[torch.Tensor], index: int) -> torch.Tensor | None:
    """What is shown of a layer; what is shown once holds for all of them."""
    return parts[index % len(parts)] if parts else None


def _shape(input_ids: torch.Tensor) -> tuple[int, int]:
    batch, length = input_ids.shape
    return batch, length


def _number(holder: object, *names: str) -> int | None:
    """The first of these whole numbers that an object, its selector or a config of either has."""
    selector = getattr(holder, "selector", None)
    for each in (holder, selector, getattr(holder, "config", None), getattr(selector, "config", None)):
        for name in names:
            value = each.get(name) if isinstance(each, Mapping) else getattr(each, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def _name(model: object) -> str:
    if isinstance(model, CapturedModel | TracedModel):
        return _name(model.model)
    path = str(getattr(getattr(model, "config", None), "_name_or_path", "") or "").rstrip("/")
    return path.rpartition("/")[2] or type(model).__name__
