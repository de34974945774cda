"""From a model and a shard of samples to the feature tables (docs/storage.md lists their columns)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn

from indexscope import IndexscopeError
from indexscope.analysis.capture import AttentionChunk, capture_dense, capture_sparse
from indexscope.analysis.capture.future import Alarm
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.observers import Resumable
from indexscope.analysis.capture.protocol import Traceable, as_source
from indexscope.analysis.capture.source import Source
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.features.buckets import BucketSums, bucket_count, bucket_of
from indexscope.analysis.features.cache import KeyCaches
from indexscope.analysis.features.columns import PER_TOKEN, SAMPLES
from indexscope.analysis.features.intake import Beside, Finite, TokenSequence, Watch, called, check_samples, evenly
from indexscope.analysis.features.layer import LayerFeatures
from indexscope.analysis.features.metrics.quality import next_token_quality
from indexscope.analysis.features.prefixes import Prefixes, apart, complete, cut, merged
from indexscope.analysis.features.sampling import measured_parts
from indexscope.analysis.features.selections import SelectionSampler
from indexscope.analysis.features.tables import layer_tables
from indexscope.analysis.settings import ExtractSettings

FEATURES_VERSION = 6
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
    lengths: Sequence[int] = (),
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
        lengths: Ascending; of all but the last, which is the longest a sample may be, there are tables of the first so
            many tokens too. They come from the same run, except where the model's positions depend on the whole length,
            or nobody knows whether they do: then from runs of their own.

    Returns:
        Tables samples, attention, heads, positions and tokens; with an indexer also indexer, recalls, scores
        and selections; and those of all that looked at samples beside it, and of what watched batches.
        With lengths each of the first eight has a companion, such as tokens_at_length, of the samples that are so long.
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
    shorter = tuple(lengths)[:-1]
    parts = attempt.gathered(
        batches(samples, settings.batch),
        lambda batch, chunk: _with_lengths(
            _Batch(source, batch, settings, chunk, alarm, dense, _also(batch, beside), watching(batch)), shorter
        ),
    )
    nothing = complete(parts) if shorter else {}
    return {name: pl.concat(frames) for name, frames in parts.items()} | nothing


def batches(samples: Sequence[TokenSequence], size: int) -> Iterator[list[TokenSequence]]:
    """Neighbouring samples of equal length, at most so many together."""
    for _, group in groupby(samples, key=lambda sample: len(sample.input_ids)):
        same_length = list(group)
        for start in range(0, len(same_length), size):
            yield same_length[start : start + size]


def _also(batch: Sequence[TokenSequence], beside: Callable[[TokenSequence], Beside | None]) -> Beside | None:
    return beside(batch[0]) if len(batch) == 1 else None


def _added(layer: LayerFeatures, chunk: AttentionChunk, input_ids: torch.Tensor, every: int) -> torch.Tensor:
    """Measure a chunk, or every so many blocks of it, and return its attention output."""
    if every == 1:
        return layer.add(chunk, input_ids)
    for part in measured_parts(chunk, input_ids.shape[1], every):
        layer.add(part, input_ids)
    return capture_sparse(chunk)


@dataclass(frozen=True)
class _Beginning:
    """The first tokens of a sample."""

    index: int
    name: str
    input_ids: Sequence[int]


@dataclass(frozen=True)
class _Batch:
    """Samples of equal length that run together.

    Attributes:
        source: The model.
        samples: What runs.
        settings: Thresholds and what is sampled.
        chunk: Queries a chunk.
        alarm: Hears of keys after their query.
        referred: Indices of samples that have a dense reference.
        also: Looks at a sample that is alone.
        watch: Looks at all of them.
    """

    source: Source
    samples: Sequence[TokenSequence]
    settings: ExtractSettings
    chunk: int
    alarm: Alarm
    referred: Container[int]
    also: Beside | None = None
    watch: Watch | None = None

    def beginning(self, length: int) -> _Batch:
        """Its first so many tokens, at which nobody else looks."""
        cut_off = [_Beginning(sample.index, sample.name, sample.input_ids[:length]) for sample in self.samples]
        return replace(self, samples=cut_off, also=None, watch=None)


def _with_lengths(given: _Batch, lengths: Sequence[int]) -> dict[str, pl.DataFrame]:
    """The tables of a batch, and those of its first tokens: of the same run where they can be, else of their own."""
    longest = len(given.samples[0].input_ids)
    shorter = [length for length in lengths if length < longest]
    alone = apart(given.source, shorter, longest, given.settings.query_every)
    tables = _extract_batch(given, [length for length in shorter if length not in alone])
    own = {length: tables for length in lengths if length == longest}
    own |= {length: _extract_batch(given.beginning(length)) for length in alone}
    return tables | merged(tables, own)


def _extract_batch(given: _Batch, lengths: Sequence[int] = ()) -> dict[str, pl.DataFrame]:
    source, batch, settings, alarm = given.source, given.samples, given.settings, given.alarm
    also, watch, device = given.also, given.watch, source.device
    input_ids = torch.tensor([list(sample.input_ids) for sample in batch], dtype=torch.int64, device=device)
    length = input_ids.shape[1]
    top_k = source.index_topk or settings.top_k
    layers: dict[int, LayerFeatures] = {}
    ids = {device: input_ids}
    finite = Finite(called(batch))
    index = [sample.index for sample in batch]
    sampler = SelectionSampler(index, length, settings.selection_queries)
    prefixes = Prefixes(index, lengths, settings.sink_keys)
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
        outputs = []
        for part in prefixes.parts(chunk):
            outputs.append(_added(layer, part, ids[here], settings.query_every))
            prefixes.reached(chunk.layer, layer, part.start + part.query.shape[2])
        output = torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0]
        if chunk.start + chunk.query.shape[2] == length:
            layer.settle()
        finite.look(chunk, output)
        sampler.add(chunk)
        return output

    def state() -> object:
        # Of layers that are done, the keys that were followed from chunk to chunk are not asked for again.
        seen = layers, finite.state(), sampler.state(), prefixes.state(), alarm.journal.state()
        return seen, None if also is None else also.state(), None if watch is None else watch.state()

    def restore(state: Any) -> None:
        (known, checked, sampled, shorter, told), beside, watched = state
        layers.update(known)
        finite.restore(checked)
        sampler.restore(sampled)
        prefixes.restore(shorter)
        alarm.journal.restore(told)
        if also is not None:
            also.restore(beside)
        if watch is not None:
            watch.restore(watched)

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

    def predicted(chunks: Iterable[tuple[int, torch.Tensor]], of: torch.Tensor) -> dict[int, BucketSums]:
        """Sums over the whole sequences and over each prefix, whose last token predicts nothing of it."""
        sums = BucketSums(_PREDICTED, (len(of),), bucket_count(length))
        found = {end: BucketSums(_PREDICTED, (len(of),), bucket_count(length)) for end in lengths} | {length: sums}
        for start, logits in chunks:
            finite.check(logits)
            if not logits.shape[-1]:  # a source that predicts nothing
                continue
            bucket = bucket_of(torch.arange(start, start + logits.shape[1], device=device))
            quality = next_token_quality(logits, of, start)
            for first, last in cut(start, logits.shape[1], [end - 1 for end in lengths]):
                sums.add({name: value[:, first:last] for name, value in quality.items()}, bucket[first:last])
                if start + last + 1 in lengths:
                    found[start + last + 1] = deepcopy(sums)
        return found

    rows = [row for row, sample in enumerate(batch) if source.has_indexer and sample.index in given.referred]
    # Both are asked for before either runs: a streamed model takes them through each layer together.
    looked_at = Resumable(observe, state, restore)
    sparse, reference = source.run(input_ids, looked_at, given.chunk, head_scores=also is not None), None
    with suppress(NotImplementedError):  # a source without a dense reference says so
        if rows:
            reference = source.run(input_ids[rows], capture_dense, given.chunk, select=False)
    quality = predicted(looking(sparse), input_ids)
    dense = dict[int, BucketSums]()
    with suppress(NotImplementedError):
        if reference is not None:
            dense = predicted(referring(reference), input_ids[rows])
    tokens = {end: _tokens_table(index, sums, dense.get(end), rows) for end, sums in quality.items()}
    tables = {
        "samples": _samples_table(batch, length),
        **layer_tables(index, layers, settings.sink_keys),
        "tokens": tokens[length],
    }
    if len(selections := sampler.table()):
        tables["selections"] = selections
    for end in lengths:
        prefixes.take("samples", end, _samples_table(batch, end))
        prefixes.take("tokens", end, tokens[end])
    tables |= prefixes.tables()
    for name, table in tables.items():
        _refuse_infinite(name, table)
    return tables | ({} if also is None else also.tables()) | ({} if watch is None else watch.tables())


def _samples_table(batch: Sequence[TokenSequence], length: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "sample": [sample.index for sample in batch],
            "name": [sample.name for sample in batch],
            "tokens": [length] * len(batch),
        },
        schema=SAMPLES.schema,
    )


def _tokens_table(index: list[int], quality: BucketSums, dense: BucketSums | None, rows: list[int]) -> pl.DataFrame:
    batch, buckets = quality.counts.shape[1:]
    means = quality.means()
    dense_nll = np.full((batch, buckets), np.nan)
    if dense is not None:
        dense_nll[rows] = dense.means()["nll"]
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
