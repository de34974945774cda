"""Chunked prefill of a causal language model with every layer's attention handed to an observer.

Technique: transformers lets a program register its own attention function, which then receives query, key, value and
mask of every layer of every architecture; DeepSeek-V3.2's families pass the indexer's selection to it too. Feeding a
sequence in chunks through the model's own cache bounds everything by chunk x sequence length.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.masking_utils import sdpa_mask

from analysis.capture.chunk import AttentionChunk, Observer
from analysis.capture.indexer import WatchTopk, indexers
from indexscope import IndexscopeError

NAME = "indexscope"
WATCHED = "_indexscope_watched"


class _Running(threading.local):
    """What the capture of this thread is doing; threads that share a model do not see each other's."""

    observer: Observer | None = None
    select: bool = True
    start: int = 0
    seen: dict[int, torch.Tensor]


_running = _Running()


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    indices: torch.Tensor | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    observer = _running.observer
    if observer is None:
        raise IndexscopeError(NAME, "the model was called outside a capture", "use CapturedModel.run or own_attention")
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    if attention_mask is None or attention_mask.dtype != torch.bool:
        raise IndexscopeError(type(module).__name__, "does not use transformers' mask functions", "use another model")
    eligible = attention_mask[..., : key.shape[2]]
    seen = _running.seen.pop(layer, None)
    selected, scores = None, None
    if indices is not None and _running.select:
        selected = _scatter(indices, eligible)
    if seen is not None:
        if seen.shape[-1] != key.shape[2]:
            raise IndexscopeError(
                type(module).__name__,
                "its indexer scores pooled entries, not tokens",
                "use a family of DESIGN section 3",
            )
        scores = seen.float()
    chunk = AttentionChunk(
        layer=layer,
        start=_running.start,
        query=query,
        key=key,
        value=value,
        eligible=eligible,
        selected=selected,
        scores=scores,
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        softcap=softcap,
        sinks=s_aux,
    )
    return observer(chunk).to(query.dtype).transpose(1, 2), None


def _scatter(indices: torch.Tensor, eligible: torch.Tensor) -> torch.Tensor:
    """The selection as a mask. Keys outside E_t drop out: before n_t reaches k, topk also returns future keys."""
    batch, queries, _ = indices.shape
    mask = torch.zeros((batch, queries, eligible.shape[-1]), dtype=torch.bool, device=indices.device)
    return mask.scatter_(-1, indices.long(), True).unsqueeze(1) & eligible


def _mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    """The sdpa mask, never skipped, so that E_t is always at hand."""
    mask: torch.Tensor | None = sdpa_mask(
        *args, **{**kwargs, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    )
    return mask


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)


def capture_dense(chunk: AttentionChunk) -> torch.Tensor:
    """Observer that attends to all of E_t: the dense reference."""
    return _sdpa(chunk, chunk.eligible)


def capture_sparse(chunk: AttentionChunk) -> torch.Tensor:
    """Observer that attends as the model does and looks at nothing: the floor of what a capture can cost."""
    return _sdpa(chunk, chunk.eligible if chunk.selected is None else chunk.selected)


def _sdpa(chunk: AttentionChunk, mask: torch.Tensor) -> torch.Tensor:
    if chunk.softcap is not None or chunk.sinks is not None:
        logits = chunk.logits().masked_fill(~mask, -torch.inf)
        highest = logits.amax(-1, keepdim=True)
        weights = torch.exp(logits - highest)
        return chunk.weigh(weights) / (weights.sum(-1, keepdim=True) + sink_weight(chunk, highest))
    groups = chunk.query.shape[1] // chunk.key.shape[1]
    key, value = chunk.key.repeat_interleave(groups, 1), chunk.value.repeat_interleave(groups, 1)
    # torch's fused CPU kernel wants values as wide as keys (MLA's are not); zero columns change nothing.
    spare = max(0, key.shape[-1] - value.shape[-1])
    wide = functional.pad(value, (0, spare))
    output = functional.scaled_dot_product_attention(chunk.query, key, wide, attn_mask=mask, scale=chunk.scaling)
    return output[..., : value.shape[-1]]


def sink_weight(chunk: AttentionChunk, highest: torch.Tensor) -> torch.Tensor | float:
    """What learned sinks add to the softmax denominator, relative to exp(highest)."""
    return 0.0 if chunk.sinks is None else torch.exp(chunk.sinks.float().view(1, -1, 1, 1) - highest)


@contextmanager
def own_attention(model: PreTrainedModel) -> Iterator[None]:
    """Give the model its own attention back (sdpa, else eager) within the block, untouched by the capture."""
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa" if getattr(model, "_supports_sdpa", False) else "eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


class CapturedModel:
    """A causal language model whose layers can be watched.

    Several threads may run captures of one model at once.

    Args:
        model: Any causal LM of transformers that follows the attention interface.

    Raises:
        IndexscopeError: The architecture does not let its attention function be replaced.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        family = model.config.model_type
        if model.config._attn_implementation != NAME:
            try:
                model.set_attn_implementation(NAME)
            except (ValueError, KeyError, ImportError) as error:
                raise IndexscopeError(
                    family, f"its attention cannot be captured ({error})", "use another model"
                ) from None
        if model.config._attn_implementation != NAME:
            raise IndexscopeError(
                family, "its architecture does not follow transformers' attention interface", "use another model"
            )
        for indexer in indexers(model):
            if WATCHED not in indexer.__dict__:
                _watch(indexer)

    @torch.inference_mode()
    def run(
        self, input_ids: torch.Tensor, observer: Observer, chunk: int, select: bool = True
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Feed sequences of equal length in chunks of queries.

        Args:
            input_ids: [batch, sequence], int64, on the model's device.
            observer: Called for every layer of every chunk; returns the attention output.
            chunk: Queries a chunk; memory grows with chunk x sequence.
            select: False runs the same weights without their indexers, dense.

        Yields:
            (position of the first query, logits [batch, queries, vocabulary]) of each chunk.
        """
        cache = DynamicCache(config=self.model.config)
        for start in range(0, input_ids.shape[1], chunk):
            ids = input_ids[:, start : start + chunk]
            before = (_running.observer, _running.select, _running.start)
            _running.observer, _running.select, _running.start, _running.seen = observer, select, start, {}
            try:
                logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True).logits
            finally:
                _running.observer, _running.select, _running.start = before
            yield start, logits


def _watch(indexer: nn.Module) -> None:
    """Have the indexer's forward report its scores while a capture runs in the calling thread."""
    forward = indexer.forward
    layer = int(indexer.layer_idx)  # type: ignore[arg-type]

    def watched(*args: Any, **kwargs: Any) -> Any:
        if _running.observer is None:
            return forward(*args, **kwargs)
        if not _running.select:
            # A dense reference pays for no scores.
            hidden_states = args[0] if args else kwargs["hidden_states"]
            return hidden_states.new_zeros((*hidden_states.shape[:2], 0), dtype=torch.int32)
        with WatchTopk() as watch:
            result = forward(*args, **kwargs)
        if watch.scores is None:
            raise IndexscopeError(
                type(indexer).__name__, "selects without torch.topk, so its scores cannot be seen", "use another model"
            )
        _running.seen[layer] = watch.scores
        return result

    indexer.forward = watched
    indexer.__dict__[WATCHED] = True
