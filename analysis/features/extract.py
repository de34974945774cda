"""From a model and a shard of samples to the feature tables (docs/storage.md lists their columns)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import nn

from indexscope import IndexscopeError
from indexscope.analysis.capture import AttentionChunk, capture_dense, capture_sparse
from indexscope.analysis.capture.future import Alarm
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.protocol import Traceable, as_source
from indexscope.analysis.capture.source import Source
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.features.buckets import BucketSums, bucket_count, bucket_of
from indexscope.analysis.features.cache import KeyCaches
from indexscope.analysis.features.columns import PER_TOKEN, SAMPLES
from indexscope.analysis.features.intake import Beside, Finite, TokenSequence, Watch, called, check_samples, evenly
from indexscope.analysis.features.layer import LayerFeatures
from indexscope.analysis.features.metrics.quality import next_token_quality
from indexscope.analysis.features.sampling import measured_parts
from indexscope.analysis.features.selections import SelectionSampler
from indexscope.analysis.features.tables import (
    attention_table,
    heads_table,
    indexer_table,
    positions_table,
    recalls_table,
    scores_table,
)
from indexscope.analysis.settings import ExtractSettings

FEATURES_VERSION = 5
"""Part of every features key: raise it when any number in these tables would change."""
#: Features of a token in one run of the model; dense_nll is of another.
_PREDICTED = tuple(name for name in PER_TOKEN if name != "dense_nll")


def extract_samples(
    model: nn.Module | Traceable | Source,
    samples: Sequence[TokenSequence],
    settings: ExtractSettings,
    journal: Journal | None = None,
    workers: int = 1,
    beside: Callable[[TokenSequence], Beside | None] = lambda sample: None,
    dense: Container[int] | None = None,
    watching: Callable[[Sequence[TokenSequence]], Watch | None] = lambda batch: None,
) -> dict[str, pl.DataFrame]:
    """Run the model over samples and return its feature tables.

    A batch that runs out of memory is run again from its start with half the chunk, and the journal says so; nothing
    of the failed attempt is kept. A model that is seen to attend to keys after their query leaks, which the journal
    says once; its tables leave those keys out. Only `indexscope.analysis.capture.audit` finds every leak.

    Args:
        model: A causal language model in eval mode: of transformers, of docs/protocol.md, any module that can be
            watched (there too), or any `Source`.
        samples: Any lengths; neighbours of equal length share a batch, so nothing is ever padded.
        settings: Chunk, batch, thresholds.
        journal: Where notes and the chunk sizes used are kept; by default notes go to the log.
        workers: How many extractions share the memory.
        beside: Gives what else looks at a sample while it runs, again if it has to run again with a smaller chunk. Only
            samples that are a batch of their own are looked at (`settings.batch` of 1), with the scores of single
            indexer heads.
        dense: Indices of the samples that have a dense reference; by default as many of these as the settings say,
            spread evenly.
        watching: Gives what else looks at a batch and at its dense reference, anew where it has to run again.

    Returns:
        Tables samples, attention, heads, positions and tokens; with an indexer also indexer, recalls, scores
        and selections; and those of all that looked at samples beside it, and of what watched batches.
        Values are per sample, so that shards add up to the same tables however samples are cut into them. dense_nll is
        null where a sample or the source has no dense reference.

    Raises:
        IndexscopeError: The model cannot be captured, a sample does not fit its vocabulary or positions, something
            that it computes is not finite, or there is not enough memory for the smallest chunk.
    """
    journal = journal or Journal()
    source = as_source(model)
    check_samples(source, samples)
    attempt, alarm = Attempt(source, settings, journal, workers), Alarm(source.family, journal)
    if dense is None:
        dense = {samples[place].index for place in evenly(len(samples), settings.dense_samples(len(samples)))}
    parts = attempt.gathered(
        batches(samples, settings.batch),
        lambda batch, chunk: _extract_batch(
            source, batch, settings, chunk, alarm, dense, _also(batch, beside), watching(batch)
        ),
    )
    return {name: pl.concat(frames) for name, frames in parts.items()}


def batches(samples: Sequence[TokenSequence], size: int) -> Iterator[list[TokenSequence]]:
    """Neighbouring samples of equal length, at most so many together."""
    for _, group in groupby(samples, key=lambda sample: len(sample.input_ids)):
        same_length = list(group)
        for start in range(0, len(same_length), size):
            yield same_length[start : start + size]


def _also(batch: Sequence[TokenSequence], beside: Callable[[TokenSequence], Beside | None]) -> Beside | None:
    return beside(batch[0]) if len(batch) == 1 else None


def _extract_batch(
    source: Source,
    batch: list[TokenSequence],
    settings: ExtractSettings,
    chunk_size: int,
    alarm: Alarm,
    referred: Container[int],
    also: Beside | None,
    watch: Watch | None,
) -> dict[str, pl.DataFrame]:
    device = source.device
    input_ids = torch.tensor([list(sample.input_ids) for sample in batch], dtype=torch.int64, device=device)
    length = input_ids.shape[1]
    top_k = source.index_topk or settings.top_k
    layers: dict[int, LayerFeatures] = {}
    ids = {device: input_ids}
    finite = Finite(called(batch))
    index = [sample.index for sample in batch]
    sampler = SelectionSampler(index, length, settings.selection_queries)
    caches = KeyCaches()

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        alarm.look(chunk)
        if also is not None:
            also.observe(chunk)
        if watch is not None:
            watch.observe(chunk)
        chunk, here = caches.followed(chunk), chunk.query.device
        if here not in ids:  # layers of one model may be on several devices, and are measured where they are
            ids[here] = input_ids.to(here)
        layer = layers.get(chunk.layer)
        if layer is None:
            heads = chunk.query.shape[1]
            layer = layers[chunk.layer] = LayerFeatures(settings, len(batch), heads, length, top_k, here)
        if settings.query_every == 1:
            output = layer.add(chunk, ids[here])
        else:
            output = capture_sparse(chunk)
            for part in measured_parts(chunk, length, settings.query_every):
                layer.add(part, ids[here])
        if chunk.start + chunk.query.shape[2] == length:
            layer.settle()
        finite.look(chunk, output)
        sampler.add(chunk)
        return output

    def looking(chunks: Iterable[tuple[int, torch.Tensor]]) -> Iterator[tuple[int, torch.Tensor]]:
        for start, logits in chunks:
            if also is not None:
                also.predicted(start, logits)
            if watch is not None:
                watch.predicted(start, logits)
            yield start, logits

    def referring(chunks: Iterable[tuple[int, torch.Tensor]]) -> Iterator[tuple[int, torch.Tensor]]:
        for start, logits in chunks:
            if watch is not None:
                watch.dense(start, logits, rows)
            yield start, logits

    def predicted(chunks: Iterable[tuple[int, torch.Tensor]], of: torch.Tensor) -> BucketSums:
        sums = BucketSums(_PREDICTED, (len(of),), bucket_count(length))
        for start, logits in chunks:
            finite.check(logits)
            if not logits.shape[-1]:  # a source that predicts nothing
                continue
            positions = torch.arange(start, start + logits.shape[1], device=device)
            sums.add(next_token_quality(logits, of, start), bucket_of(positions))
        return sums

    rows = [row for row, sample in enumerate(batch) if source.has_indexer and sample.index in referred]
    # Both are asked for before either runs: a streamed model takes them through each layer together.
    sparse, reference = source.run(input_ids, observe, chunk_size, head_scores=also is not None), None
    with suppress(NotImplementedError):  # a source without a dense reference says so
        if rows:
            reference = source.run(input_ids[rows], capture_dense, chunk_size, select=False)
    quality = predicted(looking(sparse), input_ids)
    dense_nll = np.full((len(batch), bucket_count(length)), np.nan)
    with suppress(NotImplementedError):
        if reference is not None:
            dense_nll[rows] = predicted(referring(reference), input_ids[rows]).means()["nll"]
    tables = {
        "samples": pl.DataFrame(
            {"sample": index, "name": [sample.name for sample in batch], "tokens": [length] * len(batch)},
            schema=SAMPLES.schema,
        ),
        "attention": attention_table(index, layers),
        "heads": heads_table(index, layers, settings.sink_keys),
        "positions": positions_table(index, layers),
        "tokens": _tokens_table(index, quality, dense_nll),
    }
    if any(layer.has_selection for layer in layers.values()):
        tables["indexer"] = indexer_table(index, layers)
        tables["recalls"] = recalls_table(index, layers)
    if any(layer.has_scores for layer in layers.values()):
        tables["scores"] = scores_table(index, layers)
    if len(selections := sampler.table()):
        tables["selections"] = selections
    for name, table in tables.items():
        _refuse_infinite(name, table)
    return tables | ({} if also is None else also.tables()) | ({} if watch is None else watch.tables())


def _tokens_table(index: list[int], quality: BucketSums, dense_nll: NDArray[np.float64]) -> pl.DataFrame:
    batch, buckets = quality.counts.shape[1:]
    means = quality.means()
    frame = pl.DataFrame(
        {
            "sample": np.repeat(np.asarray(index, dtype=np.int32), buckets),
            "bucket": np.tile(np.arange(buckets, dtype=np.int8), batch),
            "tokens": quality.counts[0].ravel().astype(np.int32),
            **{name: means[name].ravel() for name in _PREDICTED},
            "dense_nll": dense_nll.ravel(),
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
