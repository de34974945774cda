"""What changed between the models' choices: every candidate's selections beside the baseline's on the same queries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.selection_changes.attended import unpacked_kinds
from indexscope.analysis.selection_changes.bins import Kinds, bin_label
from indexscope.analysis.selection_changes.pairs import pairs
from indexscope.analysis.selection_changes.sums import QUANTITIES, Bins, SelectionSums
from indexscope.analysis.selection_changes.tables import (
    BY,
    COMPARED,
    changes_table,
    where_table,
    worst_table,
)
from indexscope.analysis.settings import ComparisonSettings
from indexscope.analysis.statistics.ranges import NOT_NEGATIVE
from indexscope.analysis.statistics.resampling import Array, bootstrap_ratios, interval, ratio
from indexscope.errors import IndexscopeError

_COLUMNS = [name for name in BY.schema if name != "candidate"]
#: An expectation of less than this of a key is the rounding of a difference.
_NOTHING = 1e-6
Frames = Mapping[str, pl.DataFrame]
#: Raise it when the same selections would give other rows.
VERSION = 4


def run(models: Mapping[str, Frames], baseline: str, settings: ComparisonSettings) -> dict[str, pl.DataFrame]:
    """Overlap of selections, what was dropped and added, where, and the samples in which most changed.

    Only queries at which one of the two leaves a key out count, each weighted by the queries that it stands for.
    Attention and kinds of tokens are known of samples of the close-up alone; everything else is of all samples.

    Args:
        models: Model name to its tables ``selections`` and ``samples`` (of the features) and ``attended``,
            ``token_kinds`` and ``examples`` (of the close-up; may be missing). Selections are read shard by shard where
            the tables are `indexscope.analysis.metrics.stream.Sharded`.
        baseline: Name of the baseline.
        settings: The bootstrap.

    Returns:
        metrics: of every candidate, see docs/metrics.md.
        selection_changes_where: candidate, layer (null for all) and bucket with the same quantities.
        selection_changes_by: candidate, layer (null for all), axis (distance, relative, kind) and bin with the keys
        that were kept, dropped and added, their shares and lift over chance.
        selection_changes_worst: candidate, by (overlap or mass_lost), rank and sample.
        A candidate has no rows where it and the baseline share no layer whose selections can be compared.

    Raises:
        IndexscopeError: The models were run on other samples or queries, or a table is damaged.
    """
    found: dict[str, list[pl.DataFrame]] = {name: [table.empty()] for name, table in COMPARED.items()}
    base = models[baseline]
    attended, kinds = _table(base, "attended"), _kinds(_table(base, "token_kinds"))
    samples = _table(base, "samples")
    names = {} if samples is None else dict(samples.select("sample", "name").iter_rows())
    examples = _table(base, "examples")
    shown = frozenset(() if examples is None else examples["sample"].unique().to_list())
    for name in models:
        if name == baseline:
            continue
        sums = SelectionSums(attended, _table(models[name], "attended"), kinds)
        try:
            for block in pairs(base, models[name]):
                sums.add(block)
        except IndexscopeError as error:
            raise IndexscopeError(f"selections of {name} against {baseline}", error.reason, error.remedy) from error
        own = {
            "metrics": changes_table(sums, settings),
            "selection_changes_where": where_table(sums, settings),
            "selection_changes_by": by_table(sums, settings),
            "selection_changes_worst": worst_table(sums, names, shown),
        }
        for table, frame in own.items():
            found[table].append(frame.with_columns(candidate=pl.lit(name)).select(*COMPARED[table].schema))
    return {table: pl.concat(frames) for table, frames in found.items()}


def _table(frames: Frames, name: str) -> pl.DataFrame | None:
    return frames.get(name)


def _kinds(table: pl.DataFrame | None) -> Kinds:
    if table is None:
        return {}
    rows = table.select("sample", "classes", "first").iter_rows()
    return {sample: unpacked_kinds(classes, first) for sample, classes, first in rows}


def by_table(sums: SelectionSums, settings: ComparisonSettings) -> pl.DataFrame:
    """The bins of every axis: over all layers with intervals, and in each layer without."""
    frames = [BY.empty().select(_COLUMNS)]
    for axis, bins in sums.bins().items():
        frames.append(_whole(axis, bins, settings))
        frames += [
            _rows(axis, int(layer), bins.by_layer[place], bins.layer_total[place])
            for place, layer in enumerate(bins.layers)
        ]
    return pl.concat(frames)


def _whole(axis: str, bins: Bins, settings: ComparisonSettings) -> pl.DataFrame:
    rows = _rows(axis, None, bins.by_sample.sum(axis=0), bins.sample_total.sum(axis=0))
    at = rows["bin"].to_numpy()
    columns = {"n": pl.Series((_of(bins.by_sample, "eligible") > 0).sum(axis=0)[at], dtype=BY.schema["n"])}
    for name in ("dropped", "added"):
        part, expected = _of(bins.by_sample, name)[:, at], _expected(bins.by_sample, name)[:, at]
        draws = bootstrap_ratios(part, expected, settings.resamples, settings.seed)
        value = ratio(part.sum(axis=0), expected.sum(axis=0))
        low, high = interval(value, draws, (expected > 0).sum(axis=0), settings.confidence, NOT_NEGATIVE)
        columns |= {f"{name}_ci_low": pl.Series(low), f"{name}_ci_high": pl.Series(high)}
    bounds = [name for name in columns if name != "n"]
    return rows.with_columns(**columns).with_columns(finite_or_null(*bounds)).select(_COLUMNS)


def _of(sums: Array, name: str) -> Array:
    return np.asarray(sums[..., QUANTITIES.index(name)])


def _expected(sums: Array, name: str) -> Array:
    expected = _of(sums, f"{name}_expected")
    return np.where(expected > _NOTHING, expected, 0.0)


def _rows(axis: str, layer: int | None, sums: Array, total: Array) -> pl.DataFrame:
    """The bins of one axis in which any key is eligible, without intervals.

    Args:
        axis: What the bins divide.
        layer: The layer; None for all.
        sums: [bins, quantities].
        total: Over all keys, [quantities].
    """
    size = len(sums)
    columns: dict[str, object] = {
        "layer": pl.Series([layer] * size, dtype=pl.Int16),
        "axis": [axis] * size,
        "bin": np.arange(size),
        "label": [bin_label(axis, bin_) for bin_ in range(size)],
        "eligible": _of(sums, "eligible"),
    }
    for name in ("kept", "dropped", "added"):
        columns |= {name: _of(sums, name), f"{name}_share": ratio(_of(sums, name), _of(total, name))}
    for name in ("dropped", "added"):
        expected = _expected(sums, name)
        columns |= {f"{name}_expected": expected, f"{name}_lift": ratio(_of(sums, name), expected)}
        columns[f"mass_{name}"] = ratio(_of(sums, f"mass_{name}"), _of(total, "attended"))
    frame = pl.DataFrame(columns).filter(pl.col("eligible") > 0)
    absent = [pl.lit(None, kind).alias(name) for name, kind in BY.schema.items() if name not in frame.columns]
    frame = frame.with_columns(*absent).select(_COLUMNS).cast({name: BY.schema[name] for name in _COLUMNS})
    return frame.with_columns(finite_or_null(*(name for name in _COLUMNS if BY.schema[name] == pl.Float64)))
