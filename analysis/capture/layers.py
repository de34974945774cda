"""What each attention layer is made of: heads, widths, what a query may see, and whether it attends to a selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
import torch
from torch import nn

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.indexer import index_dim, index_heads, index_topk, is_indexer
from indexscope.analysis.capture.look import look_ids, looked
from indexscope.analysis.capture.model import CapturedModel
from indexscope.analysis.capture.observers import capture_sparse
from indexscope.analysis.capture.protocol import Traceable, as_source
from indexscope.analysis.capture.selecting import selector_of
from indexscope.analysis.capture.source import Source
from indexscope.analysis.capture.tables import LAYERS

#: What configurations call a window and the chunks of a chunked attention (llama4).
WINDOWS = ("sliding_window", "sliding_window_size", "attention_window_size")
CHUNKS = ("attention_chunk_size",)
#: Longest sequence that is run to see a window or a chunk; a wider one is taken from the configuration.
LONGEST_LOOK = 1024
#: Tokens of code outside transformers, whose configuration says nothing: wider windows are not seen.
OTHER_LOOK = 513
_CHUNK = 128


def layer_facts(model: nn.Module | Traceable | Source) -> pl.DataFrame:
    """Heads, widths, window or chunk and selection of every layer with an attention map, read off a run.

    The eligible keys of a sequence one longer than what the configuration names are counted: a window lets query t see
    n_t = min(t + 1, window) keys, chunks of c the t mod c + 1 keys of its own chunk up to itself. Windows and chunks of
    more than 1024 keys are believed, not looked at. Of code outside transformers those of up to 512 keys are seen.

    Args:
        model: Whatever `indexscope.analysis.capture.as_source` takes.

    Returns:
        layer, attention_heads, key_width and value_width (channels of a head; null where a trace tells none),
        latent_key_width and latent_value_width (of latents that all heads share; null where none are known), window and
        attention_chunk (keys; both null where every earlier key is eligible), selects (whether the layer attends to
        the selection of an indexer, its own or a shared one), indexer_heads and indexer_dim (of the layer's own
        indexer), index_topk (of its selection), scored_block and scored_keys (where blocks are scored before keys).
    """
    source = as_source(model)
    config = getattr(getattr(source, "model", None), "config", None)
    text = config.get_text_config(decoder=True) if config is not None else None
    window, chunk = (_declared(text, names) for names in (WINDOWS, CHUNKS))
    kinds = list(getattr(text, "layer_types", None) or [])
    longest = min(LONGEST_LOOK, source.max_length or LONGEST_LOOK)
    length = 1 + max((size for size in (window, chunk) if size is not None and size < longest), default=1)
    modules = attention_modules(source)
    seen: dict[int, dict[str, object]] = {}
    eligible: dict[int, list[int]] = {}

    def observe(found: AttentionChunk) -> torch.Tensor:
        eligible.setdefault(found.layer, []).extend(found.eligible[0, 0].sum(-1).tolist())
        seen[found.layer] = {
            "layer": found.layer,
            **layer_widths(found, modules),
            "selects": found.selected is not None,
        }
        return capture_sparse(found)

    ids = torch.zeros((1, length), dtype=torch.int64, device=source.device)
    if not isinstance(source, CapturedModel):
        ids = look_ids(source, OTHER_LOOK)
    looked(source, ids, observe, _CHUNK)
    for layer, facts in seen.items():
        kind = kinds[layer] if layer < len(kinds) else ("" if kinds else "sliding")
        believed = (
            window if window is not None and window >= longest and "sliding" in kind else None,
            chunk if chunk is not None and chunk >= longest and "chunked" in kind else None,
        )
        facts["window"], facts["attention_chunk"] = _reach(eligible[layer]) or believed
    _add_indexers(seen, modules, source.index_topk)
    return pl.DataFrame([seen[layer] for layer in sorted(seen)], schema=LAYERS.schema)


def attention_modules(source: Source) -> Mapping[int, nn.Module]:
    """The attention module of each layer where the model is one of transformers; found by a run of its own."""
    return source.attentions if isinstance(source, CapturedModel) else {}


def layer_widths(chunk: AttentionChunk, modules: Mapping[int, nn.Module]) -> dict[str, int | None]:
    """Attention heads and the widths of a key and a value, of each head's own and of latents that all heads share.

    Args:
        chunk: Of the layer.
        modules: As `attention_modules` gives them.

    Returns:
        By column; None for what a trace stands a single zero in for, and where a module has no latents.
    """
    maps = chunk.query if chunk.probabilities is None else chunk.probabilities
    value = chunk.value.shape[-1]
    told = value > 1 or bool(chunk.value.any())
    # What transformers' modules of multi-head latent attention call the widths of the latent and of the rotary key.
    module = modules.get(chunk.layer)
    rank, rotary = getattr(module, "kv_lora_rank", None), getattr(module, "qk_rope_head_dim", 0)
    return {
        "attention_heads": maps.shape[1],
        "key_width": chunk.query.shape[-1] if chunk.probabilities is None else None,
        "value_width": value if told else None,
        "latent_key_width": None if rank is None else rank + rotary,
        "latent_value_width": rank,
    }


def _add_indexers(seen: Mapping[int, dict[str, object]], modules: Mapping[int, nn.Module], most: int | None) -> None:
    """Heads, width, k and stages of each layer's selection; a layer that shares has the k of the one before it."""
    topk: object = None
    for layer in sorted(seen):
        own = _own_indexer(modules[layer]) if layer in modules else (None, None, most, None, None)
        if seen[layer]["selects"]:
            topk = own[2] or topk
        seen[layer] |= dict(zip(_INDEXER, own, strict=True))
        seen[layer]["index_topk"] = topk if seen[layer]["selects"] else None


#: What `_own_indexer` tells.
_INDEXER = ("indexer_heads", "indexer_dim", "index_topk", "scored_block", "scored_keys")


def _own_indexer(attention: nn.Module) -> tuple[int | None, ...]:
    """Heads, width, k, and keys of a block and of all kept blocks, of what selects in an attention module."""
    laid = selector_of(attention)
    if laid is not None:
        return (laid.heads, laid.dim, laid.topk, *laid.stages)
    found = next((module for module in attention.modules() if is_indexer(module)), None)
    known = (None,) * 3 if found is None else (index_heads(found), index_dim(found), index_topk(found))
    return (*known, None, None)


def _declared(config: object, names: Sequence[str]) -> int | None:
    sizes = (getattr(config, name, None) for name in names)
    return next((size for size in sizes if isinstance(size, int)), None)


def _reach(eligible: Sequence[int]) -> tuple[int | None, int | None] | None:
    """Window and chunk by the eligible keys of queries 0, 1, ...; None where all up to the query are.

    >>> _reach([1, 2, 3, 3, 3]), _reach([1, 2, 3, 1, 2]), _reach([1, 2, 3])
    ((3, None), (None, 3), None)
    """
    for t, n in enumerate(eligible):
        if n <= t:
            return (None, t) if n == 1 < t else (eligible[-1], None)
    return None
