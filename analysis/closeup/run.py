"""From a model and samples to the close-up's tables (docs/storage.md lists their columns)."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import torch
from torch import nn

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.observers import capture_sparse
from indexscope.analysis.capture.protocol import Traceable, as_source
from indexscope.analysis.capture.source import Source
from indexscope.analysis.closeup.collect import CloseupSample, Look, Maker, Predicting, Tables, Vocabulary, collected
from indexscope.analysis.closeup.rows import CloseupRows, closeup_queries, closeup_rows
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.features.intake import TokenSequence, check_samples
from indexscope.analysis.settings import CloseupSettings, ExtractSettings

VERSION = 6
"""Part of every close-up's key: raise it when any number in its tables would change."""
PILOT_EVERY = 4


def collect_samples(
    source: Source,
    samples: Sequence[TokenSequence],
    makers: Sequence[Maker],
    queries: int,
    attempt: Attempt,
) -> Tables:
    """Run every sample once and give all collectors what the layers show.

    Args:
        source: The model.
        samples: The samples.
        makers: Make one collector a sample each.
        queries: Queries of a sample that are looked at, at most.
        attempt: Chooses and halves the chunk.
    """
    parts = attempt.gathered(
        ([sample] for sample in samples), lambda batch, chunk: _look(source, batch[0], makers, queries, chunk)
    )
    return {name: pl.concat(frames) for name, frames in parts.items()}


def _look(
    source: Source,
    sample: TokenSequence,
    makers: Sequence[Maker],
    queries: int,
    chunk_size: int,
) -> Tables:
    ids = torch.tensor([list(sample.input_ids)], dtype=torch.int64)
    places, weights = closeup_queries(ids.shape[1], queries, sample.index)
    looked_at = CloseupSample(sample.index, sample.name, ids[0], places, weights)
    collectors = [make(looked_at) for make in makers]
    predicting = [collector for collector in collectors if isinstance(collector, Predicting)]
    # By start: a model that takes its sequence at once shows all chunks of a layer before the next layer's.
    chunks: dict[int, dict[int, CloseupRows]] = {}

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        rows = closeup_rows(chunk, places, weights)
        if rows is not None:
            chunks.setdefault(chunk.start, {})[chunk.layer] = rows
        return capture_sparse(chunk)

    for first, logits in source.run(ids.to(source.device), observe, chunk_size, head_scores=True):
        for one in predicting if logits.shape[-1] else ():
            one.predicted(first, logits)
        for start in sorted(chunks):
            layers = chunks.pop(start)
            for collector in collectors:
                collector.add([layers[layer] for layer in sorted(layers)])
    found: Tables = {}
    for collector in collectors:
        found |= collector.tables()
    return found


def closeup_samples(
    model: nn.Module | Traceable | Source,
    samples: Sequence[TokenSequence],
    settings: CloseupSettings,
    extract: ExtractSettings,
    journal: Journal | None = None,
    vocabulary: Vocabulary | None = None,
) -> Tables:
    """Look closely at some queries of every sample.

    Indexer heads are ranked by what is lost without them on every fourth sample, and the loss without the lowest
    ranked ones is measured on the others, so that a choice is never judged by the samples that it was made on.

    Args:
        model: A causal language model in eval mode, as for `indexscope.analysis.features.extract_samples`.
        samples: The samples to look at, at least one.
        settings: Queries a sample, how many samples run again under other precisions, and what is kept of predictions.
        extract: Chunk, precision and device.
        journal: Where notes go.
        vocabulary: Texts of the token ids; without, tokens have no classes and examples show ids.

    Returns:
        The tables of all collectors and of the reruns, and ``logits``, ordered by sample; those of an indexer are empty
        without one.

    Raises:
        IndexscopeError: The model cannot be captured, or a sample does not fit it.
    """
    journal = journal or Journal()
    source = as_source(model)
    check_samples(source, samples)
    attempt, look = Attempt(source, extract, journal), Look(samples, settings, vocabulary)
    parts = collected()
    makers = [maker for part in parts for maker in part.makers(look)]
    found = [collect_samples(source, samples[::PILOT_EVERY], makers, settings.queries, attempt)]
    judged = [sample for place, sample in enumerate(samples) if place % PILOT_EVERY]
    makers += [part.later(found[0]) for part in parts if part.later]
    found.append(collect_samples(source, judged, makers, settings.queries, attempt))
    found += [part.again(source, look, attempt) for part in parts if part.again]
    names = list(dict.fromkeys(name for part in found for name in part))
    joined = {name: pl.concat([part[name] for part in found if name in part]) for name in names}
    return {name: table.sort("sample", maintain_order=True) for name, table in joined.items()}
