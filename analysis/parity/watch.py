"""From a model, samples and the rows of a dump to the tables of one beside the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.observers import capture_sparse
from indexscope.analysis.capture.protocol import Traceable, as_source
from indexscope.analysis.capture.source import Source
from indexscope.analysis.features.attempt import Attempt, Tables
from indexscope.analysis.features.intake import TokenSequence, check_samples
from indexscope.analysis.features.rows import AttentionRows
from indexscope.analysis.parity.asked import asked_of
from indexscope.analysis.parity.layers import ModelLayers, model_layers
from indexscope.analysis.parity.records import Dump, Dumped, opened
from indexscope.analysis.parity.rows import Reference
from indexscope.analysis.parity.shard import joined, tables_of
from indexscope.analysis.parity.sums import SampleSums
from indexscope.analysis.settings import ExtractSettings

#: Raise it when the same rows would give other tables.
VERSION = 3
#: Attention weights (heads x queries x keys) that are held at once; three tensors of this size live side by side.
_WEIGHTS = {"cpu": 1 << 22, "cuda": 1 << 28}


def parity_samples(
    model: nn.Module | Traceable | Source,
    samples: Sequence[TokenSequence],
    dump: Dump,
    tolerance: float,
    extract: ExtractSettings,
    journal: Journal | None = None,
    workers: int = 1,
) -> Tables:
    """Run the model over samples and hold a dump's rows against what it selects.

    Args:
        model: A causal language model, as for `indexscope.analysis.features.extract_samples`.
        samples: Samples, of which those without a record are listed and not run.
        dump: What the dump has of them.
        tolerance: What counts as a tie (`indexscope.analysis.parity.ParitySettings`).
        extract: Chunk, precision and device.
        journal: Where notes go.
        workers: How many share the memory.

    Returns:
        The tables of `indexscope.analysis.parity.tables.ROWS`.

    Raises:
        IndexscopeError: The dump holds other layers than the model, or its rows cannot be read.
    """
    journal = journal or Journal()
    source = as_source(model)
    wanted = [sample for sample in samples if sample.index in dump]
    check_samples(source, wanted)
    attempt = Attempt(source, extract, journal, workers)
    layers = model_layers(source) if wanted else ModelLayers((), (), ())

    def work(batch: Sequence[TokenSequence], chunk: int) -> Tables:
        record = dump[batch[0].index]
        return _beside_model(source, batch[0], record, layers.of(record), tolerance, chunk, journal)

    return joined(samples, dump, attempt.gathered(([sample] for sample in wanted), work))


def _beside_model(
    source: Source,
    sample: TokenSequence,
    record: Dumped,
    layers: Mapping[int, int],
    tolerance: float,
    chunk_size: int,
    journal: Journal,
) -> Tables:
    length = min(len(sample.input_ids), record.first + record.rows)
    ids = torch.tensor([list(sample.input_ids[:length])], dtype=torch.int64, device=source.device)
    sums = SampleSums(max(len(sample.input_ids), record.tokens), tolerance, asked_of(sample, record))
    with opened(record) as slices:

        def observe(chunk: AttentionChunk) -> torch.Tensor:
            place = layers.get(chunk.layer)
            start, stop = slices.within(chunk.start, chunk.start + chunk.query.shape[2])
            if place is not None and start < stop:
                if (why := _unlike(chunk)) is not None:
                    journal.note(f"layer {chunk.layer} {why}, and is not compared")
                else:
                    keys = slices.layer(place, start, stop).to(chunk.query.device)
                    for first, last in _blocks(chunk, start, stop):
                        reference = _reference(chunk.part(first - chunk.start, last - chunk.start))
                        sums.add(chunk.layer, keys[first - start : last - start], reference)
            return capture_sparse(chunk)

        for _ in source.run(ids, observe, chunk_size):
            pass
    return tables_of(sample, record, sums, length - record.first if sums.layers else 0)


def _unlike(chunk: AttentionChunk) -> str | None:
    """Why a layer's selection cannot be held against positions of tokens."""
    if chunk.selected is None:
        return "selects nothing"
    if chunk.entries is not None or chunk.positions is not None:
        return "selects pooled or compressed entries"
    return "selects for each group of heads by itself" if chunk.selected.shape[1] > 1 else None


def _blocks(chunk: AttentionChunk, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Stretches of queries whose attention weights fit into memory together."""
    maps = chunk.query if chunk.probabilities is None else chunk.probabilities
    most = _WEIGHTS.get(chunk.query.device.type, _WEIGHTS["cuda"])
    size = max(1, most // (maps.shape[1] * chunk.eligible.shape[-1]))
    for first in range(start, stop, size):
        yield first, min(first + size, stop)


def _reference(chunk: AttentionChunk) -> Reference:
    """What the model selects, scores and attends to at a chunk's queries."""
    assert chunk.selected is not None
    device, stop = chunk.query.device, chunk.start + chunk.query.shape[2]
    eligible, scores = chunk.eligible[0, 0], chunk.scores
    own = scores is not None and scores.dim() == 3 and scores.shape[-1] == eligible.shape[-1]
    return Reference(
        torch.arange(chunk.start, stop, device=device),
        stop - eligible.shape[-1],
        eligible,
        chunk.selected[0, 0],
        scores[0].float() if own and scores is not None else None,
        AttentionRows(chunk).mean[0],
    )
