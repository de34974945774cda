"""What changed between the models' choices: every candidate's selections beside the baseline's on the same queries."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from indexscope.analysis.attended import unpacked_kinds
from indexscope.analysis.choices.bins import Kinds
from indexscope.analysis.choices.by import by_table
from indexscope.analysis.choices.pairs import pairs
from indexscope.analysis.choices.sums import ChoiceSums
from indexscope.analysis.choices.tables import BY, CHOICES, WHERE, WORST, choices_table, where_table, worst_table
from indexscope.analysis.settings import ComparisonSettings
from indexscope.errors import IndexscopeError

Frames = Mapping[str, pl.DataFrame]
TABLES = {
    "choices": CHOICES.schema,
    "choices_where": WHERE.schema,
    "choices_by": BY.schema,
    "choices_worst": WORST.schema,
}


def choices(models: Mapping[str, Frames], baseline: str, settings: ComparisonSettings) -> dict[str, pl.DataFrame]:
    """Overlap of selections, what was dropped and added, where, and the samples in which most changed.

    Only queries at which one of the two leaves a key out count, each weighted by the queries that it stands for.
    Attention and kinds of tokens are known of probed samples alone; everything else is of all samples.

    Args:
        models: Model name to its tables ``selections`` and ``samples`` (of the features) and ``attended``,
            ``token_kinds`` and ``examples`` (of the probe; may be missing). Selections are read shard by shard where
            the tables are `indexscope.analysis.metrics.stream.Sharded`.
        baseline: Name of the baseline.
        settings: The bootstrap.

    Returns:
        choices: candidate and the columns of ``metrics``, see docs/metrics.md.
        choices_where: candidate, layer (null for all) and bucket with the same quantities.
        choices_by: candidate, layer (null for all), axis (distance, relative, kind) and bin with the keys that were
        kept, dropped and added, their shares and lift over chance.
        choices_worst: candidate, by (overlap or mass_lost), rank and sample.
        A candidate has no rows where it and the baseline share no layer whose selections can be compared.

    Raises:
        IndexscopeError: The models were run on other samples or queries, or a table is damaged.
    """
    found: dict[str, list[pl.DataFrame]] = {name: [pl.DataFrame(schema=schema)] for name, schema in TABLES.items()}
    base = models[baseline]
    attended, kinds = _table(base, "attended"), _kinds(_table(base, "token_kinds"))
    samples = _table(base, "samples")
    names = {} if samples is None else dict(samples.select("sample", "name").iter_rows())
    examples = _table(base, "examples")
    shown = frozenset(() if examples is None else examples["sample"].unique().to_list())
    for name in models:
        if name == baseline:
            continue
        sums = ChoiceSums(attended, _table(models[name], "attended"), kinds)
        try:
            for block in pairs(base, models[name]):
                sums.add(block)
        except IndexscopeError as error:
            raise IndexscopeError(f"selections of {name} against {baseline}", error.reason, error.remedy) from error
        own = {
            "choices": choices_table(sums, settings),
            "choices_where": where_table(sums, settings),
            "choices_by": by_table(sums, settings),
            "choices_worst": worst_table(sums, names, shown),
        }
        for table, frame in own.items():
            found[table].append(frame.with_columns(candidate=pl.lit(name)).select(*TABLES[table]))
    return {table: pl.concat(frames) for table, frames in found.items()}


def choice_metrics(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of ``choices`` as metrics of the candidates: column ``model`` and those of ``metrics``."""
    return table.rename({"candidate": "model"})


def _table(frames: Frames, name: str) -> pl.DataFrame | None:
    return frames.get(name)


def _kinds(table: pl.DataFrame | None) -> Kinds:
    if table is None:
        return {}
    rows = table.select("sample", "classes", "first").iter_rows()
    return {sample: unpacked_kinds(classes, first) for sample, classes, first in rows}
