"""Two dumps beside each other, without a model: nothing is known of scores and attention."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import torch

from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.features.attempt import Tables
from indexscope.analysis.features.intake import TokenSequence
from indexscope.analysis.parity.asked import asked_of
from indexscope.analysis.parity.records import Dump, Dumped, opened
from indexscope.analysis.parity.rows import Reference
from indexscope.analysis.parity.shard import joined, tables_of
from indexscope.analysis.parity.sums import SampleSums
from indexscope.errors import IndexscopeError

#: Numbers of a dump (queries x layers x keys before them) that are held at once.
_NUMBERS = 1 << 22


def parity_dumps(
    baseline: Dump, samples: Sequence[TokenSequence], dump: Dump, tolerance: float, journal: Journal | None = None
) -> Tables:
    """Hold a dump's rows against those of another dump; nothing is known of scores and attention.

    Args:
        baseline: What the baseline has of the samples.
        samples: Samples, of which those without a record in both are listed only.
        dump: What the other one has of them.
        tolerance: As in `parity_samples`; without scores it counts for nothing.
        journal: Where notes go.

    Returns:
        The tables of `indexscope.analysis.parity.tables.ROWS`.

    Raises:
        IndexscopeError: They hold different layers, or rows cannot be read.
    """
    both = {index: record for index, record in dump.items() if index in baseline}
    parts: dict[str, list[pl.DataFrame]] = {}
    strange = 0
    for sample in samples:
        if sample.index in both:
            tables, own = _beside_dump(baseline[sample.index], sample, both[sample.index], tolerance)
            strange += own
            for name, table in tables.items():
                parts.setdefault(name, []).append(table)
    if journal and len(both) < len(dump):
        journal.note(f"{len(dump) - len(both)} samples are in the dump and not in that of the baseline")
    if journal and strange:
        journal.note(f"the baseline's dump has {strange:,} entries that name no earlier token; they count for nothing")
    return joined(samples, both, parts)


def _beside_dump(baseline: Dumped, sample: TokenSequence, record: Dumped, tolerance: float) -> tuple[Tables, int]:
    """Two records of one sample, a stretch of positions at a time; and entries of the baseline's that are no key."""
    strange = 0
    layers = _common(baseline, record)
    length = max(len(sample.input_ids), record.tokens, baseline.tokens)
    sums = SampleSums(length, tolerance, asked_of(sample, record, baseline))
    with opened(baseline) as one, opened(record) as other:
        start, stop = one.within(*other.within(0, len(sample.input_ids)))
        size = max(1, _NUMBERS // (record.layers * max(1, stop)))
        for first in range(start, stop, size):
            last = min(first + size, stop)
            for layer, (place, own) in layers.items():
                keys = one.layer(place, first, last)
                reference = _dumped_reference(keys, first, last)
                strange += int(((keys < -1) | (keys > reference.query[:, None])).sum())
                sums.add(layer, other.layer(own, first, last), reference)
    return tables_of(sample, record, sums, max(0, stop - start)), strange


def _dumped_reference(keys: torch.Tensor, first: int, last: int) -> Reference:
    """The keys of a dump as what a baseline selects: those that are no earlier token are not among them."""
    query = torch.arange(first, last)
    place = torch.where((keys >= 0) & (keys <= query[:, None]), keys.long(), last)
    selected = torch.zeros((last - first, last + 1), dtype=torch.bool).scatter_(1, place, True)[:, :last]
    return Reference(query, 0, torch.arange(last) <= query[:, None], selected)


def _common(baseline: Dumped, record: Dumped) -> dict[int, tuple[int, int]]:
    """The places of each layer in two records."""
    if baseline.named is not None and record.named is not None:
        shared = [layer for layer in baseline.named if layer in record.named]
        if shared:
            return {layer: (baseline.named.index(layer), record.named.index(layer)) for layer in shared}
    elif baseline.layers == record.layers:
        named = baseline.named or record.named or tuple(range(record.layers))
        return {layer: (place, place) for place, layer in enumerate(named)}
    reason = f"holds {record.layers} layers, and {baseline.name} holds {baseline.layers}"
    raise IndexscopeError(record.name, reason, "name the model's layers of both, layers: [0, 1, ...]")
