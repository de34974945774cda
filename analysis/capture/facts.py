"""What a model is made of, as one row."""

from __future__ import annotations

import polars as pl
import torch
from torch import nn
from transformers import PreTrainedModel

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.indexer import index_dim, index_heads, index_topk, indexers
from indexscope.analysis.capture.model import CapturedModel
from indexscope.analysis.capture.observers import capture_sparse
from indexscope.analysis.capture.tables import FACTS


def model_facts(model: PreTrainedModel) -> pl.DataFrame:
    """Family, parameter counts and widths of attention and indexer.

    Widths are read off the tensors that reach the attention, so that they hold for any architecture.

    Returns:
        One row; layers are those with attention maps. indexer_heads, indexer_dim and index_topk (keys that a query
        selects; compressed entries in deepseek_v4) and entry (docs/families.md: token, pool, block or compressed) are
        null without an indexer.
    """
    widths: list[tuple[int, int, int]] = []

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        widths.append((chunk.query.shape[1], chunk.query.shape[-1], chunk.value.shape[-1]))
        return capture_sparse(chunk)

    captured = CapturedModel(model)
    for _ in captured.run(torch.zeros((1, 2), dtype=torch.int64, device=model.device), observe, 2):
        pass
    fitted = indexers(model)
    row = {
        "family": model.config.model_type,
        "parameters": parameters(model),
        "indexer_parameters": sum(map(parameters, fitted)),
        "attention_parameters": sum(map(parameters, set(captured.attentions.values()))) - sum(map(parameters, fitted)),
        "layers": len(widths),
        "attention_heads": widths[0][0],
        "key_width": widths[0][1],
        "value_width": widths[0][2],
        "indexer_layers": len(fitted),
        "indexer_heads": index_heads(fitted[0]) if fitted else None,
        "indexer_dim": index_dim(fitted[0]) if fitted else None,
        "index_topk": index_topk(fitted[0]) if fitted else None,
        "entry": captured.captured.kind if fitted else None,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
    }
    return pl.DataFrame([row], schema=FACTS.schema).drop("chunk")  # which whoever runs the model knows


def parameters(module: nn.Module) -> int:
    """How many parameters a module has; shared ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())
