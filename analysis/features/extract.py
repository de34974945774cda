"""From a model and a shard of samples to the feature tables (docs/storage.md lists their columns)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Protocol

import numpy as np
import polars as pl
import torch
from transformers import PreTrainedModel

from analysis.capture import AttentionChunk, CapturedModel, capture_dense
from analysis.capture.indexer import indexers
from analysis.features.buckets import BucketSums, bucket_count, bucket_of
from analysis.features.layer import LayerFeatures
from analysis.features.tables import attention_table, heads_table, indexer_table, positions_table, scores_table
from analysis.settings import ExtractSettings
from indexscope import IndexscopeError

FEATURES_VERSION = 1
"""Part of every features key: raise it when any number in these tables would change."""


class TokenSequence(Protocol):
    """A sample: its index in the dataset, its document's name and its token ids."""

    @property
    def index(self) -> int: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def input_ids(self) -> Sequence[int]: ...  # noqa: D102


def extract_samples(
    model: PreTrainedModel, samples: Sequence[TokenSequence], settings: ExtractSettings
) -> dict[str, pl.DataFrame]:
    """Run the model over samples and return its feature tables.

    Args:
        model: A causal language model in eval mode.
        samples: Any lengths; neighbours of equal length share a batch, so nothing is ever padded.
        settings: Chunk, batch, thresholds.

    Returns:
        Tables samples, attention, heads, positions and tokens; with an indexer also indexer and scores. Values are
        per sample, so that shards add up to the same tables however samples are cut into them.

    Raises:
        IndexscopeError: The model cannot be captured, or its output is not finite.
    """
    captured = CapturedModel(model)
    parts: dict[str, list[pl.DataFrame]] = {}
    for batch in _batches(samples, settings.batch):
        for name, table in _extract_batch(captured, batch, settings).items():
            parts.setdefault(name, []).append(table)
    tables = {name: pl.concat(frames) for name, frames in parts.items()}
    for name, table in tables.items():
        _refuse_infinite(name, table)
    return tables


def _batches(samples: Sequence[TokenSequence], size: int) -> Iterator[list[TokenSequence]]:
    for _, group in groupby(samples, key=lambda sample: len(sample.input_ids)):
        same_length = list(group)
        for start in range(0, len(same_length), size):
            yield same_length[start : start + size]


def _extract_batch(
    captured: CapturedModel, batch: list[TokenSequence], settings: ExtractSettings
) -> dict[str, pl.DataFrame]:
    device = captured.model.device
    input_ids = torch.tensor([list(sample.input_ids) for sample in batch], dtype=torch.int64, device=device)
    length = input_ids.shape[1]
    top_k = getattr(captured.model.config, "index_topk", None) or settings.top_k
    layers: dict[int, LayerFeatures] = {}

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        layer = layers.get(chunk.layer)
        if layer is None:
            heads = chunk.query.shape[1]
            layer = layers[chunk.layer] = LayerFeatures(settings, len(batch), heads, length, top_k, device)
        return layer.add(chunk, input_ids)

    def predicted(chunks: Iterable[tuple[int, torch.Tensor]]) -> BucketSums:
        sums = BucketSums(("nll", "accuracy"), (len(batch),), bucket_count(length))
        for start, logits in chunks:
            positions = torch.arange(start, start + logits.shape[1], device=device)
            sums.add(_quality(logits, input_ids, start), bucket_of(positions))
        return sums

    quality = predicted(captured.run(input_ids, observe, settings.chunk))
    twice = settings.dense_reference and bool(indexers(captured.model))
    dense = predicted(captured.run(input_ids, capture_dense, settings.chunk, select=False) if twice else ())
    index = [sample.index for sample in batch]
    tables = {
        "samples": pl.DataFrame(
            {"sample": index, "name": [sample.name for sample in batch], "tokens": [length] * len(batch)},
            schema={"sample": pl.Int32, "name": pl.String, "tokens": pl.Int32},
        ),
        "attention": attention_table(index, layers),
        "heads": heads_table(index, layers, settings.sink_keys),
        "positions": positions_table(index, layers),
        "tokens": _tokens_table(index, quality, dense),
    }
    if any(layer.has_selection for layer in layers.values()):
        tables["indexer"] = indexer_table(index, layers)
    if any(layer.has_scores for layer in layers.values()):
        tables["scores"] = scores_table(index, layers)
    return tables


def _quality(logits: torch.Tensor, input_ids: torch.Tensor, start: int) -> dict[str, torch.Tensor]:
    """Negative log-likelihood of each next token in nats, and whether it came first; NaN for the last token."""
    target = input_ids[:, start + 1 : start + 1 + logits.shape[1]]
    if not bool(torch.isfinite(logits).all()):
        raise IndexscopeError("model", "its logits are not finite", "check its weights, or use dtype float32")
    known = logits[:, : target.shape[1]].float()
    nll = torch.nn.functional.cross_entropy(known.transpose(1, 2), target, reduction="none")
    right = (known.argmax(-1) == target).float()
    missing = (0, logits.shape[1] - target.shape[1])
    return {
        "nll": torch.nn.functional.pad(nll, missing, value=torch.nan),
        "accuracy": torch.nn.functional.pad(right, missing, value=torch.nan),
    }


def _tokens_table(index: list[int], quality: BucketSums, dense: BucketSums) -> pl.DataFrame:
    batch, buckets = quality.counts.shape[1:]
    means, dense_means = quality.means(), dense.means()
    frame = pl.DataFrame(
        {
            "sample": np.repeat(np.asarray(index, dtype=np.int32), buckets),
            "bucket": np.tile(np.arange(buckets, dtype=np.int8), batch),
            "tokens": quality.counts[0].ravel().astype(np.int32),
            "nll": means["nll"].ravel(),
            "accuracy": means["accuracy"].ravel(),
            "dense_nll": dense_means["nll"].ravel(),
        }
    )
    return frame.filter(pl.col("tokens") > 0).with_columns(pl.col(pl.Float64).fill_nan(None))


def _refuse_infinite(name: str, table: pl.DataFrame) -> None:
    floats = table.select(pl.col(pl.Float32, pl.Float64))
    for column in floats.iter_columns():
        if not column.drop_nulls().is_finite().all():
            raise IndexscopeError(
                f"features {name}.{column.name}",
                "holds values that are not finite",
                "use dtype float32, and check the weights",
            )
