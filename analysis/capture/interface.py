"""Our attention and mask functions, as transformers calls them for every layer of every architecture.

Technique: `AttentionInterface.register` replaces the attention function of a model, which then receives query, key,
value and mask of every layer, and with them the selection of those families that pass it on.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import MutableSequence
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask, sdpa_mask

from indexscope import IndexscopeError
from indexscope.analysis.capture.chunk import AttentionChunk, Observer
from indexscope.analysis.capture.families import DENSE, Family
from indexscope.analysis.capture.indexer import Seen
from indexscope.analysis.capture.observers import capture_sparse
from indexscope.analysis.capture.selecting import Carried, selector_of
from indexscope.analysis.capture.site import Site

NAME = "indexscope"
ADDITIVE = "indexscope_additive"


class Running(threading.local):
    """What the capture of this thread is doing; threads that share a model do not see each other's.

    Attributes:
        observer: None outside a capture.
        family: How the model is read.
        paths: Name of each module.
        select: Whether the selection is wanted.
        head_scores: Whether head scores are wanted.
        start: Index of the chunk's first query.
        length: Tokens of the whole sequence; None outside a capture, and where nobody says.
        padding: True for the tokens so far that are not padding, [batch, tokens]; None without padding.
        masks: The masks that transformers made for this chunk.
        copies: Of a model over several devices, masks and what was made of each on another device.
        seen: What each layer's indexer showed, until its attention runs.
        layers: Layers whose attention ran, and the module that did.
        carried: What layers hand on beside what the model's own code does; outside a capture too.
    """

    observer: Observer | None = None
    family: Family = DENSE
    paths: dict[nn.Module, str]
    select: bool = True
    head_scores: bool = False
    start: int = 0
    length: int | None = None
    padding: torch.Tensor | None = None
    masks: MutableSequence[torch.Tensor]
    copies: MutableSequence[tuple[torch.Tensor, torch.Tensor]]
    seen: dict[int, Seen]
    layers: dict[int, nn.Module]
    carried: Carried

    def __init__(self) -> None:
        self.carried = Carried()


running = Running()


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    indices: torch.Tensor | None = None,
    block_indices: torch.Tensor | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """The registered function: bring a family's arguments into one shape and hand them to the observer."""
    observer = running.observer
    if observer is None:
        raise IndexscopeError(NAME, "the model was called outside a capture", "use CapturedModel.run or own_attention")
    path = running.paths.get(module, "")
    layer = layer_of(module, path)
    _refuse_unknown(module, path, others)
    visible, bias = _visible(module, path, attention_mask, query.shape[2], key.shape[2])
    dropped = running.start + query.shape[2] - key.shape[2]
    if dropped > 0 and query.shape[2] > 1 and bool(visible[:, 0, -1, 0].any()):
        # transformers' cache believes the config, the model's own layers do not ask it.
        reason = f"attends to all tokens, but its config has transformers' cache drop the first {dropped}"
        raise IndexscopeError(f"{type(module).__name__} ({path})", reason, "remove sliding_window from config.json")
    if position_bias is not None:
        bias = position_bias if bias is None else bias + position_bias
    made = running.masks[-1] if running.masks else None
    known = (*running.masks, *(copy for _, copy in running.copies))
    padding = None if running.padding is None else running.padding.to(query.device)
    site = Site(
        module=module,
        path=path,
        start=running.start,
        queries=query.shape[2],
        keys=key.shape[2],
        visible=visible,
        mask_keys=None if made is None else made.shape[-1],
        untouched=any(_same_memory(attention_mask, mask) for mask in known),
        padding=padding,
        select=running.select,
        indices=indices,
        block_indices=block_indices,
    )
    reading = running.family.read(site, running.seen.pop(layer, None))
    running.layers[layer] = module
    chunk = AttentionChunk(
        layer=layer,
        start=running.start,
        query=query,
        key=key,
        value=value,
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        softcap=softcap,
        sinks=s_aux,
        bias=bias,
        **vars(reading),
    )
    selector = selector_of(module)
    if selector is not None and running.select:
        chunk = selector.choose(chunk, running.carried)
    output = observer(chunk) if padding is None else _without_padding(observer, chunk, padding)
    # Some models view the result, as they may what sdpa returns.
    return output.to(query.dtype).transpose(1, 2).contiguous(), None


def layer_of(module: nn.Module, path: str) -> int:
    """Index of the layer that a module belongs to: its own word for it, else the first number in its name."""
    layer = getattr(module, "layer_idx", None)
    if layer is None or layer < 0:  # Zamba's attention is shared between layers
        layer = next((int(part) for part in path.split(".") if part.isdigit()), None)
    if layer is None:
        raise IndexscopeError(f"{type(module).__name__} ({path})", "does not know its layer", "use another model")
    return int(layer)


def copied(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A mask that transformers made, on another device, always the same tensor; any other tensor as it is."""
    if tensor.device == device or not any(_same_memory(tensor, mask) for mask in running.masks):
        return tensor
    for mask, copy in running.copies:
        if mask is tensor and copy.device == device:
            return copy
    running.copies.append((tensor, tensor.to(device)))
    return running.copies[-1][1]


def _without_padding(observer: Observer, chunk: AttentionChunk, padding: torch.Tensor) -> torch.Tensor:
    """Show no keys to queries that are padding, but go on with what the model itself gives them."""
    real = padding[:, chunk.start : chunk.start + chunk.query.shape[2]]
    if bool(real.all()):
        return observer(chunk)
    attended = chunk.eligible if chunk.selected is None else chunk.selected
    blank = ~attended.any(-1, keepdim=True).repeat_interleave(chunk.query.shape[1] // attended.shape[1], 1)
    # Fused kernels do not agree on what attention to nothing is; NaN would reach the tokens through the values.
    own = capture_sparse(chunk).masked_fill(blank, 0.0)
    if running.family.uniform_blanks and chunk.selected is not None:
        mean = chunk.value.mean(2, keepdim=True).repeat_interleave(chunk.query.shape[1] // chunk.value.shape[1], 1)
        own = torch.where(blank, mean.to(own.dtype), own)
    rows = real[:, None, :, None]

    def only(mask: torch.Tensor | None) -> torch.Tensor | None:
        return None if mask is None else mask & (rows if mask.ndim == 4 else rows[:, 0])

    scores = chunk.scores
    if scores is not None:
        scores = scores.masked_fill(~(rows if scores.ndim == 4 else rows[:, 0]), -torch.inf)
    shown = dataclasses.replace(
        chunk,
        eligible=chunk.eligible & rows,
        selected=only(chunk.selected),
        scores=scores,
        chosen=only(chunk.chosen),
        always=only(chunk.always),
    )
    return torch.where(rows, observer(shown), own.to(chunk.query.dtype))


def _refuse_unknown(module: nn.Module, path: str, others: dict[str, Any]) -> None:
    """Numbers that some other architecture gives its attention would change it, so they cannot be passed over."""
    for name, given in others.items():
        if isinstance(given, torch.Tensor) and given.is_floating_point():
            where = f"{type(module).__name__} ({path})"
            raise IndexscopeError(where, f"gives its attention `{name}`, which is not known", "use another model")


def _visible(
    module: nn.Module, path: str, mask: torch.Tensor | None, queries: int, keys: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What a mask leaves visible, [batch or 1, 1, queries, keys], and what it adds to the logits besides."""
    where = f"{type(module).__name__} ({path})"
    if mask is None:
        raise IndexscopeError(where, "is called without an attention mask", "use another model")
    if mask.ndim != 4 or mask.shape[2] != queries or mask.shape[3] < keys:
        reason = f"its mask is {list(mask.shape)} for {queries} queries and {keys} keys"
        raise IndexscopeError(where, reason, "use another model")
    mask = mask[..., :keys]
    bias = None
    if mask.dtype != torch.bool:
        hidden = mask <= torch.finfo(mask.dtype).min / 2
        bias = mask.masked_fill(hidden, 0.0)
        mask, bias = ~hidden, bias if bool(bias.any()) else None
    if mask.shape[1] > 1:
        if not torch.equal(mask.any(1), mask.all(1)):
            raise IndexscopeError(where, "its mask differs between heads", "use another model")
        mask = mask[:, :1]
    return mask, bias


def _same_memory(one: torch.Tensor | None, other: torch.Tensor) -> bool:
    return one is not None and one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _bool_mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    """The sdpa mask, never skipped, so that E_t is always at hand."""
    mask: torch.Tensor | None = sdpa_mask(
        *args, **{**kwargs, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    )
    return _remember(mask)


def _additive_mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    """The eager mask, for layers that join further float columns to it."""
    mask: torch.Tensor | None = eager_mask(*args, **{**kwargs, "allow_is_bidirectional_skip": False})
    return _remember(mask)


def _remember(mask: torch.Tensor | None) -> torch.Tensor | None:
    if mask is not None and running.observer is not None:
        running.masks.append(mask)
    return mask


for _name, _function in ((NAME, _bool_mask), (ADDITIVE, _additive_mask)):
    AttentionInterface.register(_name, attention)
    AttentionMaskInterface.register(_name, _function)

__all__ = ["ADDITIVE", "NAME", "Running", "attention", "copied", "layer_of", "running"]
