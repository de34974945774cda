"""The tables of features, put together from what is declared beside the code that computes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import polars as pl
from polars._typing import PolarsDataType

from indexscope.analysis.features.feature import Feature
from indexscope.analysis.features.metrics import FAMILIES
from indexscope.analysis.features.recalls import RECALLS
from indexscope.analysis.features.shape import SHAPES
from indexscope.analysis.features.stored_selections import SELECTIONS
from indexscope.analysis.features.uniform import COLUMNS as UNIFORM
from indexscope.columns import Column, Table, names, of, table_of

_COUNTS = of(
    pl.Int32,
    "queries",
    queries="Queries of the row.",
    queries_multi="Queries with more than one eligible key.",
    queries_in_effect="Queries with more eligible keys than are selected.",
)


def _of(table: str) -> list[Feature]:
    """The features of a table: those that kernels write first, in their order."""
    features = [feature for family in FAMILIES for feature in family.features if feature.table == table]
    return sorted(features, key=lambda one: (one.kernel is None, one.kernel or 0))


def _stored(features: Iterable[Feature], dtype: PolarsDataType = pl.Float32) -> tuple[Column, ...]:
    return tuple(feature.stored(dtype) for feature in features)


_OF_HEADS, _OF_QUERIES, _OF_TOKENS = _of("attention"), _of("indexer"), _of("tokens")
COUNTS = names(_COUNTS)
PER_HEAD = tuple(feature.name for feature in _OF_HEADS)
PER_QUERY = tuple(feature.name for feature in _OF_QUERIES)
PER_TOKEN = tuple(feature.name for feature in _OF_TOKENS)
#: What torch alone computes.
WITHOUT_KERNEL = frozenset(feature.name for feature in (*_OF_HEADS, *_OF_QUERIES) if feature.kernel is None)
WEIGHTS = {feature.name: feature.weight for feature in (*_OF_HEADS, *_OF_QUERIES)}

SAMPLES = table_of(
    "sample",
    "sample",
    of(pl.String, name="Document and offset of the sample."),
    of(pl.Int32, "tokens", tokens="Length of the sample."),
)
TOKENS = table_of(
    "sample, bucket",
    "sample bucket",
    of(pl.Int32, "tokens", tokens="Predicted tokens of the row."),
    _stored(_OF_TOKENS, pl.Float64),
)
ATTENTION = table_of("sample, layer, head, bucket", "sample layer head bucket", _COUNTS, UNIFORM, _stored(_OF_HEADS))
HEADS = table_of(
    "sample, layer, head",
    "sample layer head",
    of(pl.Int32, "queries", queries="Queries at positions from 16 on."),
    SHAPES,
)
INDEXER = table_of("sample, layer, bucket", "sample layer bucket", _COUNTS, _stored(_OF_QUERIES))
POSITIONS = table_of(
    "sample, layer, distance, relative",
    "sample layer distance relative",
    of(
        pl.Int8,
        distance="Distance bin: 0 holds the query itself, b the keys 2^(b-1) to 2^b - 1 before it.",
        relative="Relative bin: r holds the keys in tenth r of the eligible ones, 0 the oldest.",
    ),
    of(pl.Int32, "queries", queries="Queries that were counted in the sample."),
    of(
        pl.Float64,
        "keys",
        selections="Selected keys in both bins, over all queries; null for dense models.",
        expected_selections="The same if keys were selected by chance; null for dense models.",
    ),
    of(
        pl.Float64,
        "share, summed over queries",
        attention_mass="Dense attention on the keys in both bins.",
        attention_expected="The same if attention were uniform.",
    ),
)
#: Of the scores of one group, beside their number; the close-up has them of single indexer heads.
MOMENTS_OF_SCORES: tuple[Column, ...] = (
    *of(pl.Float64, "score", "count", mean="Mean score."),
    *of(pl.Float64, "score^2", m2="Sum of squared deviations from the mean."),
    *of(pl.Float64, "score", minimum="Smallest score.", maximum="Largest score."),
    *of(pl.Int64, "keys", zeros="Scores that are exactly zero."),
    *of(pl.Binary, sketch="Serialised datasketches.tdigest_float of the scores."),
)
SCORES = table_of(
    "sample, layer, group",
    "sample layer group",
    of(pl.String, group="Whose index scores: selected or unselected keys of queries in effect."),
    of(pl.Int64, "keys", count="Scores of the row."),
    MOMENTS_OF_SCORES,
)
FEATURES = {
    "samples": SAMPLES,
    "tokens": TOKENS,
    "attention": ATTENTION,
    "heads": HEADS,
    "indexer": INDEXER,
    "positions": POSITIONS,
    "scores": SCORES,
    "recalls": RECALLS,
    "selections": SELECTIONS,
}
#: Everything that is measured, as docs/storage.md lists it.
MEASURED = (*PER_HEAD, *PER_QUERY, *PER_TOKEN, *names(SHAPES))


def at_length(table: str) -> str:
    """What the table is called that has a feature table's rows of the first tokens of samples."""
    return f"{table}_at_length"


def _of_prefixes(table: Table) -> Table:
    """A table of samples with a row for each length that a study asks for."""
    length = of(pl.Int32, "tokens", length="Tokens of the sample that the row is of: its first so many.")
    key = ("sample", "length", *(name for name in table.key if name != "sample"))
    sample, *others = table.columns
    return replace(table, row=f"{', '.join(key)}", key=key, columns=(sample, *length, *others))


#: The same of the first tokens of each sample, at lengths that a study asks for; of selections nothing is kept.
AT_LENGTHS = {at_length(name): _of_prefixes(table) for name, table in FEATURES.items() if name != "selections"}
