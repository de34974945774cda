"""What one forward of a model outside transformers tells: its logits and each layer's attention, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch

from indexscope import IndexscopeError

GUIDE = "see docs/protocol.md"
_HALF = {torch.float16: 4e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class LayerTrace:
    """One layer's attention over a whole sequence: B sequences, H heads, S tokens.

    Give either ``probabilities`` or ``query``, ``key`` and ``scale``.

    Attributes:
        probabilities: Dense attention over E_t, before any selection, [B, H, S, S]; 0 outside E_t.
        query: [B, H, S, width], rotated and normed as it enters the product.
        key: [B, key heads, S, width]; the key heads divide H (grouped queries).
        scale: Factor on query x key.
        value: [B, value heads, S, value width], as many heads as ``key``. Without it there is no output error.
        eligible: E_t before any selection, [S, S] or [B or 1, S, S], bool, True where query t (rows) may attend to
            key s; at most the causal keys, less windows and padding. Causal if left out.
        scores: Index scores I, [B, S, S], or [B, G, S, S] where each of G groups of heads scores for itself; what
            they hold outside E_t is ignored.
        selected: S_t. A bool mask [B, S, S] or [B, G, S, S] is exactly what each query attends to, so a True after
            the query is a leak that the causality audit reports. Integers [B, S, k] or [B, G, S, k] are the keys that
            the indexer picked, -1 for none; the layer attends to those of them in E_t. None where the layer is dense.
        head_scores: Score of each of J indexer heads after ReLU, [B, S, J, S]; without it nothing is told of heads.
        head_weights: w[t, j], by which ``head_scores`` add up to I, [B, S, J]; 1 where left out.
    """

    probabilities: torch.Tensor | None = None
    query: torch.Tensor | None = None
    key: torch.Tensor | None = None
    scale: float | None = None
    value: torch.Tensor | None = None
    eligible: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    selected: torch.Tensor | None = None
    head_scores: torch.Tensor | None = None
    head_weights: torch.Tensor | None = None


@dataclass(frozen=True)
class Trace:
    """One forward.

    Attributes:
        logits: Of the next tokens, [B, S, vocabulary]; [B, S, 0] where nothing is predicted, so that quality is null.
        layers: What each attention layer saw, first layer first.
        ahead: Whether a layer that is not among them attends to keys after their query.
    """

    logits: torch.Tensor
    layers: Sequence[LayerTrace]
    ahead: bool = False


def eligible_keys(layer: LayerTrace, length: int, device: torch.device) -> torch.Tensor:
    """E_t of a layer, [B or 1, 1, S, S], bool; causal where the layer gives none."""
    if layer.eligible is None:
        return causal_mask(length, device).view(1, 1, length, length)
    given = layer.eligible if layer.eligible.dim() == 3 else layer.eligible.unsqueeze(0)
    return given.unsqueeze(1)


def causal_mask(length: int, device: torch.device) -> torch.Tensor:
    """[S, S], bool, True for keys up to the query."""
    return torch.ones((length, length), dtype=torch.bool, device=device).tril()


def rounding(dtype: torch.dtype) -> float:
    """How far sums and products of numbers of this type are off, relative to what they would be."""
    return _HALF.get(dtype, 1e-4)


def sum_tolerance(p: torch.Tensor, missed: float) -> float:
    """How far the rows of p may miss a sum of 1: by its type, or the half precision that it was cast from.

    Rounding outlasts a cast, so that weights which a half precision holds exactly are judged as weights of that type.

    Args:
        p: Attention, any shape.
        missed: How far its worst row misses 1; where its type's tolerance holds that, no cast is looked for.
    """
    own = rounding(p.dtype)
    if p.dtype in _HALF or missed <= own:
        return own
    return max([off for dtype, off in _HALF.items() if torch.equal(p.to(dtype).to(p.dtype), p)], default=own)


def selection_mask(selected: torch.Tensor, length: int) -> torch.Tensor:
    """A selection of either form as [B, 1 or G, S, S], bool, future keys and all."""
    grouped = selected if selected.dim() == 4 else selected.unsqueeze(1)
    if grouped.dtype == torch.bool:
        return grouped
    # A last column takes the -1 entries and is cut off again.
    places = torch.where(grouped < 0, length, grouped).long()
    mask = torch.zeros((*grouped.shape[:3], length + 1), dtype=torch.bool, device=selected.device)
    return mask.scatter_(-1, places, True)[..., :length]


def check_trace(
    trace: object, model: str, batch: int, length: int, vocabulary: int | None = None, refuse_leaks: bool = True
) -> Trace:
    """Refuse a trace whose numbers could only mislead.

    Args:
        trace: What the model returned.
        model: Its name, for the message.
        batch: Sequences that went in.
        length: Tokens of each.
        vocabulary: Width that logits must have if they have any; None for any width.
        refuse_leaks: Also refuse probabilities that put weight outside E_t; the causality audit counts them instead.

    Returns:
        The same trace.

    Raises:
        IndexscopeError: A shape, type or value is not what the protocol says; names the layer and the field.
    """
    if not isinstance(trace, Trace):
        raise IndexscopeError(model, f"trace returned {type(trace).__name__}, not a Trace", GUIDE)
    _floating(f"{model} logits", trace.logits)
    _shape(f"{model} logits", trace.logits, (batch, length, vocabulary if trace.logits.shape[-1:] != (0,) else 0))
    if not trace.layers:
        raise IndexscopeError(model, "its trace has no layers", f"add one LayerTrace per attention layer, {GUIDE}")
    for index, layer in enumerate(trace.layers):
        where = f"{model} layer {index}"
        heads = _check_attention(where, layer, batch, length)
        _check_eligible(where, layer, batch, length)
        _check_selection(where, layer, batch, heads, length)
        if layer.probabilities is not None:
            _check_probabilities(f"{where} probabilities", layer, layer.probabilities, refuse_leaks)
    return trace


def _check_attention(where: str, layer: LayerTrace, batch: int, length: int) -> int:
    """Shapes of the attention's tensors; gives the number of heads."""
    if layer.probabilities is not None:
        if layer.query is not None or layer.key is not None:
            _refuse(where, "has both probabilities and query or key", "give one of the two")
        _floating(f"{where} probabilities", layer.probabilities)
        _shape(f"{where} probabilities", layer.probabilities, (batch, None, length, length))
        heads = key_heads = layer.probabilities.shape[1]
    elif layer.query is None or layer.key is None or layer.scale is None:
        _refuse(where, "has neither probabilities nor all of query, key and scale", "give one of the two")
    else:
        _floating(f"{where} query", layer.query)
        _floating(f"{where} key", layer.key)
        _shape(f"{where} query", layer.query, (batch, None, length, None))
        _shape(f"{where} key", layer.key, (batch, None, length, layer.query.shape[3]))
        heads, key_heads = layer.query.shape[1], layer.key.shape[1]
        if heads % key_heads:
            _refuse(f"{where} key", f"has {key_heads} heads for {heads} query heads", "the one must divide the other")
        if not 0 < layer.scale < float("inf"):
            _refuse(f"{where} scale", f"is {layer.scale}", "give the positive factor on query x key")
    if layer.value is not None:
        _floating(f"{where} value", layer.value)
        _shape(f"{where} value", layer.value, (batch, None, length, None))
        of_key = layer.probabilities is None
        if layer.value.shape[1] != key_heads if of_key else heads % layer.value.shape[1]:
            _refuse(f"{where} value", f"has {layer.value.shape[1]} heads", f"give {key_heads}, as the keys have")
    return heads


def _check_eligible(where: str, layer: LayerTrace, batch: int, length: int) -> None:
    given, where = layer.eligible, f"{where} eligible"
    if given is None:
        return
    if given.dtype != torch.bool:
        _refuse(where, f"is {given.dtype}", "give bool, True where a query may attend")
    if given.dim() not in (2, 3) or given.shape[-2:] != (length, length) or given[..., 0, 0].numel() not in (1, batch):
        _refuse(where, f"has shape {_words(given.shape)}", f"give [{length}, {length}] or [B, {length}, {length}]")


def _check_selection(where: str, layer: LayerTrace, batch: int, heads: int, length: int) -> None:
    for name, given, width in (("scores", layer.scores, length), ("selected", layer.selected, None)):
        if given is None:
            continue
        grouped = given.dim() == 4
        _shape(f"{where} {name}", given, (batch, None, length, width) if grouped else (batch, length, width))
        if grouped and heads % given.shape[1]:
            _refuse(
                f"{where} {name}", f"has {given.shape[1]} groups for {heads} heads", "the one must divide the other"
            )
    if layer.scores is not None:
        _floating(f"{where} scores", layer.scores, finite=False)
        if bool((layer.scores.isnan() | layer.scores.isposinf()).any()):
            _refuse(
                f"{where} scores", "hold NaN or infinity", "give finite scores; -inf marks keys that are not eligible"
            )
        if layer.selected is None:
            _refuse(f"{where} scores", "come without selected", "give the selection that was made from them")
        if (layer.scores.dim() == 4) != (layer.selected.dim() == 4):
            _refuse(f"{where} scores", "and selected differ in groups", "give both of them per group, or neither")
    if layer.selected is not None and layer.selected.dtype != torch.bool:
        _check_indices(f"{where} selected", layer.selected, length)
    _check_heads(where, layer, batch, length)


def _check_heads(where: str, layer: LayerTrace, batch: int, length: int) -> None:
    heads, weights = layer.head_scores, layer.head_weights
    if heads is None:
        if weights is not None:
            _refuse(f"{where} head_weights", "come without head_scores", "give both, or neither")
        return
    if layer.scores is None or layer.scores.dim() != 3:
        _refuse(f"{where} head_scores", "come without scores [B, S, S]", "give the scores that they add up to")
    _floating(f"{where} head_scores", heads)
    _shape(f"{where} head_scores", heads, (batch, length, None, length))
    if weights is not None:
        _floating(f"{where} head_weights", weights)
        _shape(f"{where} head_weights", weights, (batch, length, heads.shape[2]))


def _check_indices(where: str, indices: torch.Tensor, length: int) -> None:
    if indices.is_floating_point() or indices.is_complex():
        _refuse(where, f"is {indices.dtype}", "give a bool mask or integer indices")
    if indices.numel() and not -1 <= int(indices.min()) <= int(indices.max()) < length:
        _refuse(where, f"holds {int(indices.min())} to {int(indices.max())}", f"give keys 0 to {length - 1}, or -1")


def _check_probabilities(where: str, layer: LayerTrace, p: torch.Tensor, refuse_leaks: bool) -> None:
    eligible = eligible_keys(layer, p.shape[-1], p.device)
    if bool((p < 0).any()):
        _refuse(where, "hold negative weights", "give them after the softmax")
    if refuse_leaks and bool((p * ~eligible).any()):
        what = "keys after the query" if layer.eligible is None else "keys outside eligible"
        _refuse(where, f"put weight on {what}", "mask them before the softmax, or say in eligible what is visible")
    sums = p.sum(-1, dtype=torch.float32)
    expected = eligible.any(-1).float().expand_as(sums)
    worst = float((sums - expected).abs().max())
    if worst > sum_tolerance(p, worst):
        _refuse(where, f"have rows that miss a sum of 1 by {worst:.2g}", "normalise them over the eligible keys")
    if layer.selected is None:
        return
    left_out = eligible & ~selection_mask(layer.selected, p.shape[-1])
    if left_out.shape[1] > 1:
        left_out = left_out.repeat_interleave(p.shape[1] // left_out.shape[1], 1)
    if bool(left_out.any()) and not bool((p * left_out).any()):
        _refuse(
            where, "are 0 outside the selection", "give the dense ones, before the selection, or recall means nothing"
        )


def _floating(where: str, tensor: object, finite: bool = True) -> None:
    if not isinstance(tensor, torch.Tensor):
        _refuse(where, f"is {type(tensor).__name__}", "give a tensor")
    if not tensor.is_floating_point():
        _refuse(where, f"is {tensor.dtype}", "give a floating-point tensor")
    if finite and not bool(tensor.isfinite().all()):
        _refuse(where, "holds NaN or infinity", "check the weights, or run in float32")


def _shape(where: str, tensor: torch.Tensor, expected: tuple[int | None, ...]) -> None:
    """Compare with the sizes that are known; None stands for any."""
    fits = tensor.dim() == len(expected) and all(
        size == wanted for size, wanted in zip(tensor.shape, expected, strict=True) if wanted is not None
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in expected)
        _refuse(where, f"has shape {_words(tensor.shape)}", f"give [{wanted}]")


def _words(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _refuse(where: str, reason: str, remedy: str) -> NoReturn:
    raise IndexscopeError(where, reason, f"{remedy} ({GUIDE})")
