"""From a model and samples to the probe's tables (docs/storage.md lists their columns)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.observers import capture_sparse
from indexscope.analysis.capture.protocol import Traceable, as_source
from indexscope.analysis.capture.source import Source
from indexscope.analysis.content.classes import token_classes
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.features.intake import TokenSequence, called, check_samples
from indexscope.analysis.probe.attended import attended_collector
from indexscope.analysis.probe.budget import budget_collector
from indexscope.analysis.probe.collect import Maker, ProbedSample, Tables
from indexscope.analysis.probe.content import content_collector
from indexscope.analysis.probe.drift import drift_collector
from indexscope.analysis.probe.examples import example_collector
from indexscope.analysis.probe.heads import head_collector, pruning_collector, removal_order
from indexscope.analysis.probe.logits import PredictionRows
from indexscope.analysis.probe.maps import map_collector
from indexscope.analysis.probe.rerun import rerun_stability
from indexscope.analysis.probe.rows import ProbeRows, probe_rows, probed_queries
from indexscope.analysis.probe.sharing import sharing_collector
from indexscope.analysis.probe.stability import stability_collector
from indexscope.analysis.settings import ExtractSettings, ProbeSettings

PROBE_VERSION = 4
"""Part of every probe's key: raise it when any number in its tables would change."""
PILOT_EVERY = 4


@dataclass(frozen=True)
class Vocabulary:
    """What token ids mean to a reader.

    Attributes:
        pieces: Text of each id as it stands inside a text.
        special: Ids of special tokens.
    """

    pieces: Sequence[str]
    special: Collection[int]


@dataclass(frozen=True)
class Predictions:
    """What is kept of next-token distributions.

    Attributes:
        top: Tokens of each, at most.
        classes: Class code of each id of the vocabulary, of `token_classes`; None without a tokenizer.
    """

    top: int
    classes: NDArray[np.int8] | None = None


def collect_samples(
    source: Source,
    samples: Sequence[TokenSequence],
    makers: Sequence[Maker],
    queries: int,
    attempt: Attempt,
    predictions: Predictions | None = None,
) -> Tables:
    """Run every sample once and give all collectors what the layers show.

    Args:
        source: The model.
        samples: The samples.
        makers: Make one collector a sample each.
        queries: Queries of a sample that are looked at, at most.
        attempt: Chooses and halves the chunk.
        predictions: What to keep of the next-token distributions, as the table ``logits``; None for nothing.
    """
    parts: dict[str, list[pl.DataFrame]] = {}
    for sample in samples:

        def look(chunk: int, sample: TokenSequence = sample) -> Tables:
            return _look(source, sample, makers, queries, chunk, predictions)

        for name, table in attempt.run(look, 1, len(sample.input_ids), called([sample])).items():
            parts.setdefault(name, []).append(table)
    return {name: pl.concat(frames) for name, frames in parts.items()}


def _look(
    source: Source,
    sample: TokenSequence,
    makers: Sequence[Maker],
    queries: int,
    chunk_size: int,
    predictions: Predictions | None,
) -> Tables:
    ids = torch.tensor([list(sample.input_ids)], dtype=torch.int64)
    probed = ProbedSample(sample.index, sample.name, ids[0])
    collectors = [make(probed) for make in makers]
    places, weights = probed_queries(ids.shape[1], queries)
    predicted = None
    if predictions is not None:
        predicted = PredictionRows(probed, places, weights, predictions.top, predictions.classes)
    # By start: a model that takes its sequence at once shows all chunks of a layer before the next layer's.
    chunks: dict[int, dict[int, ProbeRows]] = {}

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        rows = probe_rows(chunk, places, weights)
        if rows is not None:
            chunks.setdefault(chunk.start, {})[chunk.layer] = rows
        return capture_sparse(chunk)

    for first, logits in source.run(ids.to(source.device), observe, chunk_size, head_scores=True):
        if predicted is not None and logits.shape[-1]:
            predicted.add(first, logits)
        for start in sorted(chunks):
            layers = chunks.pop(start)
            for collector in collectors:
                collector.add([layers[layer] for layer in sorted(layers)])
    found: Tables = {} if predicted is None else {"logits": predicted.table()}
    for collector in collectors:
        found |= collector.tables()
    return found


def probe_samples(
    model: PreTrainedModel | Traceable | Source,
    samples: Sequence[TokenSequence],
    settings: ProbeSettings,
    extract: ExtractSettings,
    journal: Journal | None = None,
    vocabulary: Vocabulary | None = None,
) -> Tables:
    """Look closely at some queries of every sample.

    Indexer heads are ranked by what is lost without them on every fourth sample, and the loss without the lowest
    ranked ones is measured on the others, so that a choice is never judged by the samples that it was made on.

    Args:
        model: A causal language model in eval mode, as for `indexscope.analysis.features.extract_samples`.
        samples: The samples to probe, at least one.
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
    attempt = Attempt(source, extract, journal)
    pieces = None if vocabulary is None else vocabulary.pieces
    shown = {samples[place].index for place in (0, len(samples) // 2, -1)}
    classes = None if vocabulary is None else token_classes(vocabulary.pieces, vocabulary.special)
    predictions = Predictions(settings.top_logits, classes)
    makers: list[Maker] = [
        head_collector(),
        budget_collector(),
        drift_collector(),
        stability_collector(),
        sharing_collector(),
        content_collector(classes),
        example_collector(pieces, shown),
        map_collector([sample.index for sample in samples]),
        attended_collector(settings.attended_keys, classes),
    ]
    pilot = list(samples[::PILOT_EVERY])
    judged = [sample for place, sample in enumerate(samples) if place % PILOT_EVERY]
    found = [collect_samples(source, pilot, makers, settings.queries, attempt, predictions)]
    order = removal_order(found[0]["indexer_heads"])
    pruned = [*makers, pruning_collector(order)]
    found.append(collect_samples(source, judged, pruned, settings.queries, attempt, predictions))
    again = _evenly(samples, settings.rerun_samples)
    found.append(rerun_stability(source, again, settings.queries, attempt))
    names = list(dict.fromkeys(name for part in found for name in part))
    joined = {name: pl.concat([part[name] for part in found if name in part]) for name in names}
    return {name: table.sort("sample", maintain_order=True) for name, table in joined.items()}


def _evenly(samples: Sequence[TokenSequence], count: int) -> list[TokenSequence]:
    if count >= len(samples):
        return list(samples)
    return [samples[(2 * place + 1) * len(samples) // (2 * count)] for place in range(count)]
