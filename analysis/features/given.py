"""Features of attention maps that are given as tensors, by the code that extracts them from a running model."""

from __future__ import annotations

import polars as pl
import torch

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.features.cache import KeyCaches
from indexscope.analysis.features.columns import SAMPLES
from indexscope.analysis.features.layer import LayerFeatures
from indexscope.analysis.features.tables import attention_table, heads_table, indexer_table
from indexscope.analysis.settings import ExtractSettings


def given_chunk(weights: torch.Tensor, eligible: torch.Tensor, selected: torch.Tensor | None = None) -> AttentionChunk:
    """Whole attention maps as the one chunk of a sequence; there are no values, so that output errors are null.

    Args:
        weights: Attention p over E_t, [batch, heads, S, S].
        eligible: E_t, [S, S], bool.
        selected: S_t within E_t, [batch, 1 or heads, S, S], bool; None where all of E_t is attended to.
    """
    batch, heads, length, _ = weights.shape
    nothing = weights.new_zeros((batch, 1, length, 1))
    return AttentionChunk(
        layer=0,
        start=0,
        query=weights.new_zeros((batch, heads, length, 1)),
        key=nothing,
        value=nothing,
        eligible=eligible.view(1, 1, length, length),
        selected=selected,
        scores=None,
        scaling=1.0,
        probabilities=weights,
    )


@torch.inference_mode()
def given_tables(
    weights: torch.Tensor,
    eligible: torch.Tensor,
    settings: ExtractSettings,
    selected: torch.Tensor | None = None,
    input_ids: torch.Tensor | None = None,
) -> dict[str, pl.DataFrame]:
    """Feature tables of given attention maps, as `extract_samples` makes them of a layer (docs/storage.md).

    Args:
        weights: Attention p over E_t, [batch, heads, S, S], on any device.
        eligible: E_t, [S, S], bool; causal but for maps of models that see the future, whose distances count both ways.
        settings: Thresholds and windows.
        selected: S_t within E_t, [batch, 1 or heads, S, S], bool.
        input_ids: Tokens, [batch, S], int64. Without them no token is like another and induction_mass is 0.

    Returns:
        Tables samples, attention and heads, with a selection also indexer; the layer is 0.
    """
    batch, heads, length, _ = weights.shape
    device = weights.device
    ids = torch.arange(length).expand(batch, -1) if input_ids is None else input_ids
    budget = settings.top_k if selected is None else max(1, int(selected.sum(-1).amax()))
    layer = LayerFeatures(settings, batch, heads, length, budget, device, compiled=False)
    layer.add(KeyCaches().followed(given_chunk(weights, eligible, selected)), ids.to(device))
    index = list(range(batch))
    tables = {
        "samples": pl.DataFrame(
            {"sample": index, "name": [str(item) for item in index], "tokens": [length] * batch},
            schema=SAMPLES.schema,
        ),
        "attention": attention_table(index, {0: layer}),
        "heads": heads_table(index, {0: layer}, settings.sink_keys),
    }
    if selected is not None:
        tables["indexer"] = indexer_table(index, {0: layer})
    return tables
