"""From a model and a shard of samples to the tables of a study's own features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from indexscope.analysis.capture import AttentionChunk, capture_sparse
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.observers import Resumable
from indexscope.analysis.capture.protocol import Traceable, as_source
from indexscope.analysis.capture.source import Source
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.features.buckets import BucketSums, bucket_count, bucket_of
from indexscope.analysis.features.columns import ATTENTION
from indexscope.analysis.features.extract import batches
from indexscope.analysis.features.intake import Finite, TokenSequence, called, check_samples
from indexscope.analysis.features.rows import AttentionRows
from indexscope.analysis.features.sampling import measured_parts
from indexscope.analysis.settings import ExtractSettings
from indexscope.plugins import PER_HEAD, PER_QUERY, Plugin

PLUGIN_FEATURES_VERSION = 2
"""Part of every key of user features: raise it when any number in these tables would change."""
#: Attention weights of the rows that a function gets at once; it may make a dozen tensors of their size.
_WEIGHTS = {"cpu": 1 << 22, "cuda": 1 << 26}
_KEYS = {name: ATTENTION.schema[name] for name in ATTENTION.key}
Tables = dict[str, pl.DataFrame]


def extract_plugin_features(
    model: nn.Module | Traceable | Source,
    samples: Sequence[TokenSequence],
    settings: ExtractSettings,
    declared: Sequence[Plugin],
    journal: Journal | None = None,
    workers: int = 1,
) -> Tables:
    """Run the model over samples and return the tables of declared features.

    Args:
        model: As for `indexscope.analysis.features.extract_samples`.
        samples: Any lengths; neighbours of equal length share a batch.
        settings: Chunk, batch, and which blocks of queries are measured.
        declared: The features, at least one.
        journal: Where notes and the chunk sizes used are kept.
        workers: How many extractions share the memory.

    Returns:
        plugin_attention: sample, layer, head, bucket, and of each feature per head its mean and, as ``<name>_queries``,
        the number of queries that it is over; plugin_indexer: the same of features per query, without heads. A table
        without a single row is left out.

    Raises:
        IndexscopeError: The model cannot be captured, a sample does not fit it, a function raised something, or what
            it returned has another shape than it should have, or an infinite value.
    """
    journal = journal or Journal()
    source = as_source(model)
    check_samples(source, samples)
    attempt = Attempt(source, settings, journal, workers)
    parts = attempt.gathered(
        batches(samples, settings.batch), lambda batch, chunk: _extract_batch(source, batch, settings, declared, chunk)
    )
    tables = {name: pl.concat(frames, how="diagonal") for name, frames in parts.items()}
    return {name: table for name, table in tables.items() if table.height}


class _LayerSums:
    """Bucket sums of all declared features of one layer."""

    def __init__(self, declared: Sequence[Plugin], batch: int, heads: int, buckets: int) -> None:
        self.shape = (batch, heads)
        self.of = {
            one: BucketSums((one.name,), self.shape if one.per == "head" else (batch,), buckets) for one in declared
        }

    def add(self, rows: AttentionRows) -> None:
        bucket = bucket_of(rows.position)
        alive = (rows.n > 0).expand(self.shape[0], -1)
        in_effect = torch.zeros_like(alive)
        if rows.selected is not None:
            in_effect = alive & (rows.selected.sum(-1) < rows.n.unsqueeze(1)).any(1)
        for one, sums in self.of.items():
            value = _checked(one, one(rows), (*sums.sums.shape[1:-1], len(bucket)), rows.p.device)
            counted = alive if one.queries == "all" else in_effect
            if one.per == "head":
                counted = counted.unsqueeze(1)
            sums.add({one.name: torch.where(counted, value, torch.nan)}, bucket)


def _checked(one: Plugin, value: object, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """What a function returned, as floats of this shape; a batch of one stands for all."""
    words = "[batch, heads, queries]" if len(shape) == 3 else "[batch, queries]"
    remedy = f"return a tensor {words}, here {list(shape)}"
    if not isinstance(value, torch.Tensor):
        raise one.refused(f"returned {type(value).__name__}", remedy)
    if tuple(value.shape) not in (shape, (1, *shape[1:])):
        raise one.refused(f"returned shape {list(value.shape)}", remedy)
    if value.is_complex():
        raise one.refused("returned complex numbers", remedy)
    if bool(value.isinf().any()):
        raise one.refused("returned an infinite value", "return NaN for what is not defined")
    return value.detach().to(device, torch.float64 if value.dtype == torch.float64 else torch.float32)


def _extract_batch(
    source: Source, batch: list[TokenSequence], settings: ExtractSettings, declared: Sequence[Plugin], chunk_size: int
) -> Tables:
    input_ids = torch.tensor([list(sample.input_ids) for sample in batch], dtype=torch.int64, device=source.device)
    length = input_ids.shape[1]
    layers: dict[int, _LayerSums] = {}
    finite = Finite(called(batch))

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        layer = layers.get(chunk.layer)
        if layer is None:
            heads = chunk.query.shape[1]
            layer = layers[chunk.layer] = _LayerSums(declared, len(batch), heads, bucket_count(length))
        for part in measured_parts(chunk, length, settings.query_every):
            for rows in _rows(part):
                layer.add(rows)
        output = capture_sparse(chunk)
        finite.look(chunk, output)
        return output

    def state() -> object:
        sums = {
            number: (layer.shape[1], [(part.sums, part.counts) for part in layer.of.values()])
            for number, layer in layers.items()
        }
        return sums, finite.state()

    def restore(given: Any) -> None:
        sums, checked = given
        finite.restore(checked)
        for number, (heads, parts) in sums.items():
            layers[number] = _LayerSums(declared, len(batch), heads, bucket_count(length))
            for part, (total, counts) in zip(layers[number].of.values(), parts, strict=True):
                part.sums, part.counts = total, counts

    for _, logits in source.run(input_ids, Resumable(observe, state, restore), chunk_size):
        finite.check(logits)
    index = [sample.index for sample in batch]
    tables = {PER_HEAD: _table(index, layers, "head"), PER_QUERY: _table(index, layers, "query")}
    return {name: table for name, table in tables.items() if table is not None}


def _rows(chunk: AttentionChunk) -> Iterator[AttentionRows]:
    queries = chunk.query.shape[2]
    weights = chunk.query.shape[0] * chunk.query.shape[1] * chunk.eligible.shape[-1]
    step = max(1, _WEIGHTS.get(chunk.query.device.type, 1 << 24) // weights)
    for first in range(0, queries, step):
        yield AttentionRows(chunk, first, min(first + step, queries))


def _table(index: list[int], layers: dict[int, _LayerSums], per: str) -> pl.DataFrame | None:
    """Means and counts of the features per head or per query, sorted, without rows that no query is behind."""
    frames = []
    for layer, sums in layers.items():
        own = {one: part for one, part in sums.of.items() if one.per == per}
        if not own:
            return None
        shape = next(iter(own.values())).sums.shape[1:]
        grids = np.indices(shape)
        names = ("head", "bucket") if per == "head" else ("bucket",)
        columns = {"sample": np.asarray(index)[grids[0]].ravel(), "layer": np.full(grids[0].size, layer)}
        columns |= {name: grid.ravel() for name, grid in zip(names, grids[1:], strict=True)}
        for one, part in own.items():
            columns[one.name] = part.means()[one.name].ravel()
            columns[f"{one.name}_queries"] = part.counts[0].ravel().astype(np.int32)
        frames.append(pl.DataFrame(columns))
    if not frames:
        return None
    frame = pl.concat(frames)
    keys = [name for name in _KEYS if name in frame.columns]
    counts = [pl.col(name) > 0 for name in frame.columns if name.endswith("_queries")]
    return (
        frame.filter(pl.any_horizontal(counts))
        .with_columns(*(pl.col(name).cast(_KEYS[name]) for name in keys), pl.col(pl.Float64).fill_nan(None))
        .sort(keys)
    )
