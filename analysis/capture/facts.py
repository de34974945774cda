"""What a model is made of, as one row."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import torch
from torch import nn

from indexscope.analysis.capture.anatomy import Anatomy, anatomy_of
from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.layers import attention_modules, layer_widths
from indexscope.analysis.capture.look import look_ids, looked
from indexscope.analysis.capture.observers import capture_sparse
from indexscope.analysis.capture.protocol import Traceable, as_source
from indexscope.analysis.capture.source import Source
from indexscope.analysis.capture.tables import FACTS


def model_facts(model: nn.Module | Traceable | Source, found: Anatomy | None = None) -> pl.DataFrame:
    """Family, parameter counts and widths of attention and indexer.

    Widths are read off the tensors that reach the attention, so that they hold for any architecture.

    Args:
        model: Whatever `indexscope.analysis.capture.as_source` takes.
        found: As ``anatomy_of`` gives it, where it is known: code outside transformers runs for it.

    Returns:
        One row; layers are those with attention maps. indexer_heads, indexer_dim and index_topk (keys that a query
        selects; compressed entries in deepseek_v4) and entry (docs/families.md: token, pool, block or compressed) are
        null without an indexer, and indexer_precision is where none is published. Of code outside transformers whatever
        could not be seen is null, and entry is.
    """
    source = as_source(model)
    found, heads, indexing = anatomy_of(source) if found is None else found, set[int](), set[int]()
    modules = attention_modules(source)
    widths: dict[int, Mapping[str, int | None]] = {}

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        widths[chunk.layer] = layer_widths(chunk, modules)
        if chunk.scores is not None:
            indexing.add(chunk.layer)
        if chunk.head_scores is not None:
            heads.add(chunk.head_scores.shape[2])
        return capture_sparse(chunk)

    ids = look_ids(source)
    looked(source, ids, observe, ids.shape[1], head_scores=True)
    first = widths[min(widths)]
    fitted, weights = found.indexers, iter(()) if found.whole is None else found.whole.parameters()
    dtype = next((str(each.dtype).removeprefix("torch.") for each in weights if each.is_floating_point()), None)
    hidden = source.has_indexer and not fitted and found.entry is None
    layers = len(fitted) if found.entry is not None else len(indexing)
    row = {
        "family": source.family,
        "parameters": None if found.whole is None else parameters(found.whole),
        "indexer_parameters": None if hidden else found.indexer_parameters,
        "attention_parameters": found.attention_parameters if found.attentions else None,
        "layers": len(widths),
        **first,
        "indexer_layers": layers or (None if hidden else 0),
        "indexer_heads": found.index_heads or max(heads, default=None),
        "indexer_dim": found.index_dim,
        "index_topk": source.index_topk,
        "entry": found.entry,
        "indexer_precision": found.precision,
        "dtype": dtype,
        "device": source.device.type,
    }
    return pl.DataFrame([row], schema=FACTS.schema).drop("chunk")  # which whoever runs the model knows


def parameters(module: nn.Module) -> int:
    """How many parameters a module has; shared ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())
