"""From a model and samples to the close-up's tables (docs/storage.md lists their columns)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import polars as pl
from torch import nn

from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.protocol import Traceable, as_source
from indexscope.analysis.capture.source import Source, served_together
from indexscope.analysis.closeup.collect import Again, Look, Maker, Tables, Vocabulary, collected
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.features.intake import TokenSequence, check_samples
from indexscope.analysis.settings import CloseupSettings, ExtractSettings

VERSION = 8
"""Part of every close-up's key: raise it when any number in its tables would change."""
RERUN_VERSION = 2
"""The same of what runs again after it."""


def makers_of(look: Look) -> list[Maker]:
    """The makers of all collectors."""
    return [maker for part in collected() for maker in part.makers(look)]


def closeup_samples(
    model: nn.Module | Traceable | Source,
    samples: Sequence[TokenSequence],
    settings: CloseupSettings,
    extract: ExtractSettings,
    journal: Journal | None = None,
    vocabulary: Vocabulary | None = None,
) -> Tables:
    """Look closely at some queries of every sample, in a forward of its own, and run some of them again.

    Args:
        model: A causal language model in eval mode, as for `indexscope.analysis.features.extract_samples`.
        samples: The samples to look at, at least one.
        settings: Queries a sample, how many samples run again, and what is kept of predictions.
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
    makers = makers_of(Look([sample.index for sample in samples], settings, vocabulary))
    looked = collect_samples(source, samples, makers, settings.queries, Attempt(source, extract, journal))
    tables = by_sample(looked)
    return tables | rerun_samples(source, samples, settings, extract, tables, journal)


def rerun_samples(
    source: Source,
    samples: Sequence[TokenSequence],
    settings: CloseupSettings,
    extract: ExtractSettings,
    looked: Mapping[str, pl.DataFrame],
    journal: Journal,
    workers: int = 1,
) -> Tables:
    """Run some of the samples again that were looked at: without indexer heads, and under other conditions.

    Args:
        source: The model.
        samples: The samples that were looked at, at least one.
        settings: How closely.
        extract: Chunk, precision and device.
        looked: The close-up's tables.
        journal: Where notes go.
        workers: How many share the memory.

    Raises:
        IndexscopeError: The model cannot be captured, or a sample does not fit it.
    """
    check_samples(source, samples)
    again = Again(source, samples, settings, looked, Attempt(source, extract, journal, workers))
    reruns = [partial(part.rerun.run, again) for part in collected() if part.rerun is not None]
    found: Tables = {}
    for tables in served_together(source, reruns):
        found |= tables
    return by_sample(found)


def by_sample(tables: Tables) -> Tables:
    """Tables in the order of the samples."""
    return {name: table.sort("sample", maintain_order=True) for name, table in tables.items()}
