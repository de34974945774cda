"""What a close-up is made of: collectors, each of one concern, declared by a question."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis import questions
from indexscope.analysis.capture.source import Source
from indexscope.analysis.closeup.classes import token_classes
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.features.intake import TokenSequence
from indexscope.analysis.settings import CloseupSettings
from indexscope.columns import Table

Tables = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class CloseupSample:
    """The sample that is looked at.

    Attributes:
        index: Its place in the dataset.
        name: Its document.
        input_ids: Its tokens, [length], int64, on the CPU.
        queries: Positions of its sampled queries, ascending, int64.
        weights: Queries that each of them stands for, float64.
    """

    index: int
    name: str
    input_ids: torch.Tensor
    queries: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    weights: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.float64))


class Collector(Protocol):
    """Takes what all layers show of one sample; a chunk that does not fit into memory leads to a new collector."""

    def add(self, layers: Sequence[CloseupRows]) -> None:
        """Take one chunk: the rows of every layer that has any, by layer; chunks come in order."""
        ...

    def tables(self) -> Tables:
        """The sample's rows of each table, with the column ``sample``; always all tables, empty ones included."""
        ...


@runtime_checkable
class Predicting(Protocol):
    """A collector that takes the model's predictions as well."""

    def predicted(self, start: int, logits: torch.Tensor) -> None:
        """Take one chunk: the logits of the queries from start on, [1, queries, vocabulary]."""
        ...


Maker = Callable[[CloseupSample], Collector]


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
class Look:
    """What all collectors of a close-up may be made by.

    Attributes:
        samples: Indices of all samples that are looked at, in order.
        settings: How closely they are looked at.
        vocabulary: Texts of the token ids; None without a tokenizer.
    """

    samples: Sequence[int]
    settings: CloseupSettings
    vocabulary: Vocabulary | None = None

    @cached_property
    def classes(self) -> NDArray[np.int8] | None:
        """Class code of each id of the vocabulary; None without one."""
        return None if self.vocabulary is None else token_classes(self.vocabulary.pieces, self.vocabulary.special)


@dataclass(frozen=True)
class Again:
    """What samples run again with, after all have been looked at.

    Attributes:
        source: The model.
        samples: The samples that were looked at, in order.
        settings: How closely.
        looked: Gives a table of the close-up by its name.
        attempt: Chooses and halves the chunk.
    """

    source: Source
    samples: Sequence[TokenSequence]
    settings: CloseupSettings
    looked: Mapping[str, pl.DataFrame]
    attempt: Attempt


@dataclass(frozen=True)
class Rerun:
    """Runs of some samples of the close-up for themselves: under other conditions, or to judge what was chosen.

    Attributes:
        tables: The tables that they fill, as they are stored.
        run: Makes them.
    """

    tables: Mapping[str, Table]
    run: Callable[[Again], Tables]


@dataclass(frozen=True)
class Collected:
    """What a question takes from the close-up; declared once, in its ``collect.py``.

    Attributes:
        tables: The tables that its collectors fill, as they are stored.
        makers: Make one collector a sample each.
        rerun: What it runs again afterwards; None for nothing.
    """

    tables: Mapping[str, Table]
    makers: Callable[[Look], Sequence[Maker]] = lambda look: ()
    rerun: Rerun | None = None


def collected() -> list[Collected]:
    """What all questions take from the close-up."""
    return questions.declared("collect", Collected)
