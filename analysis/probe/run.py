"""From a model and samples to the probe's tables (docs/storage.md lists their columns)."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import torch
from transformers import PreTrainedModel

from analysis.capture.chunk import AttentionChunk
from analysis.capture.journal import Journal
from analysis.capture.observers import capture_sparse
from analysis.capture.protocol import Traceable, as_source
from analysis.capture.source import Source
from analysis.features.attempt import Attempt
from analysis.features.intake import TokenSequence, called, check_samples
from analysis.probe.collect import Maker, ProbedSample, Tables
from analysis.probe.rows import ProbeRows, probe_rows, probed_queries
from analysis.settings import ExtractSettings, ProbeSettings

PROBE_VERSION = 1
"""Part of every probe's key: raise it when any number in its tables would change."""


def collect_samples(
    source: Source, samples: Sequence[TokenSequence], makers: Sequence[Maker], queries: int, attempt: Attempt
) -> Tables:
    """Run every sample once and give all collectors what the layers show.

    Args:
        source: The model.
        samples: The samples.
        makers: Make one collector a sample each.
        queries: Queries of a sample that are looked at, at most.
        attempt: Chooses and halves the chunk.
    """
    parts: dict[str, list[pl.DataFrame]] = {}
    for sample in samples:

        def look(chunk: int, sample: TokenSequence = sample) -> Tables:
            return _look(source, sample, makers, queries, chunk)

        for name, table in attempt.run(look, 1, len(sample.input_ids), called([sample])).items():
            parts.setdefault(name, []).append(table)
    return {name: pl.concat(frames) for name, frames in parts.items()}


def _look(source: Source, sample: TokenSequence, makers: Sequence[Maker], queries: int, chunk_size: int) -> Tables:
    ids = torch.tensor([list(sample.input_ids)], dtype=torch.int64)
    probed = ProbedSample(sample.index, sample.name, ids[0])
    collectors = [make(probed) for make in makers]
    places, weights = probed_queries(ids.shape[1], queries)
    # By start: a model that takes its sequence at once shows all chunks of a layer before the next layer's.
    chunks: dict[int, dict[int, ProbeRows]] = {}

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        rows = probe_rows(chunk, places, weights)
        if rows is not None:
            chunks.setdefault(chunk.start, {})[chunk.layer] = rows
        return capture_sparse(chunk)

    for _ in source.run(ids.to(source.device), observe, chunk_size, head_scores=True):
        for start in sorted(chunks):
            layers = chunks.pop(start)
            for collector in collectors:
                collector.add([layers[layer] for layer in sorted(layers)])
    found: Tables = {}
    for collector in collectors:
        found |= collector.tables()
    return found


def probe_samples(
    model: PreTrainedModel | Traceable | Source,
    samples: Sequence[TokenSequence],
    settings: ProbeSettings,
    extract: ExtractSettings,
    journal: Journal | None = None,
) -> Tables:
    """Look closely at some queries of every sample.

    Args:
        model: A causal language model in eval mode, as for `analysis.features.extract_samples`.
        samples: The samples to probe.
        settings: Queries a sample.
        extract: Chunk, precision and device.
        journal: Where notes go.

    Returns:
        The tables of all collectors.

    Raises:
        IndexscopeError: The model cannot be captured, or a sample does not fit it.
    """
    journal = journal or Journal()
    source = as_source(model)
    check_samples(source, samples)
    attempt = Attempt(source, extract, journal)
    return collect_samples(source, samples, (), settings.queries, attempt)
