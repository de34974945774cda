"""How a candidate's attention patterns moved between the clusters and types that it shares with the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.clustering.pattern_types import TYPES
from indexscope.analysis.clustering.rows import KEYS
from indexscope.analysis.metrics.ratios import share_table
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.resampling import Array
from indexscope.analysis.transitions.tables import MOVED, TRANSITIONS

_INTERVAL = {"ci_low": pl.Float64, "ci_high": pl.Float64}
LABELS = {"cluster": "cluster", "type": "pattern_type"}
#: Raise it when any number of the analysis would change.
VERSION = 2
# A stored table comes back with its words numbered as they come; numbers in this order mean the same everywhere.
_NUMBERED = {"cluster": pl.col("cluster").cast(pl.Int16), "pattern_type": pl.col("pattern_type").cast(pl.Enum(TYPES))}
_KINDS = ("before", "after")


def run(
    models: Mapping[str, Iterable[pl.DataFrame]], baseline: str, settings: BootstrapSettings
) -> dict[str, pl.DataFrame]:
    """Join the assignments of each candidate with the baseline's on sample, layer and head.

    Args:
        models: Model name to its assignments, with the same clusters in each: parts of a table that is sorted by
            sample. The baseline's are gone through once for each candidate.
        baseline: Name of the baseline.
        settings: The bootstrap over samples.

    Returns:
        transitions: candidate, layer (null for all), of ("cluster" or "type"), before (in the baseline), after (in the
        candidate), share of the rows with that before and its interval, count, n (samples with that before); the
        pairs that occur. moved: candidate, layer, of, moved (share of rows whose cluster or type is another), ci_low,
        ci_high, n (samples). Rows that only one of the models has count in neither.
    """
    tables, moved = [TRANSITIONS.empty()], [MOVED.empty()]
    for name, assignments in models.items():
        if name == baseline:
            continue
        both = _counted(models[baseline], assignments)
        for of, counts in both.items():
            if not counts.is_empty():
                found = _shares(counts, of, settings).with_columns(candidate=pl.lit(name), of=pl.lit(of))
                tables.append(TRANSITIONS.shaped(found.filter(pl.col("before").is_not_null())))
                overall = found.filter(pl.col("before").is_null()).rename({"share": "moved"})
                moved.append(MOVED.shaped(overall))
    return {"transitions": pl.concat(tables), "moved": pl.concat(moved)}


def _counted(before: Iterable[pl.DataFrame], after: Iterable[pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Rows by sample, layer and what they were and are, for clusters and types: far fewer than one a head."""
    numbers = [column.to_physical().cast(pl.Int16) for column in _NUMBERED.values()]
    found: dict[str, list[pl.DataFrame]] = {of: [] for of in LABELS}
    for one, other in _aligned(before, after):
        joined = one.select(*KEYS, *numbers).join(other.select(*KEYS, *numbers), on=KEYS, suffix="_after")
        for of, column in LABELS.items():
            kinds = [pl.col(column).alias("before"), pl.col(f"{column}_after").alias("after")]
            found[of].append(joined.group_by("sample", "layer", *kinds).agg(rows=pl.len().cast(pl.Int32)))
    empty = {"sample": pl.Int32, "layer": pl.Int16, "before": pl.Int16, "after": pl.Int16, "rows": pl.Int32}
    return {of: pl.concat([pl.DataFrame(schema=empty), *parts]) for of, parts in found.items()}


def _aligned(one: Iterable[pl.DataFrame], other: Iterable[pl.DataFrame]) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Two tables in parts, both sorted by sample, cut anew so that a pair of parts holds the same samples whole."""
    sides = (_Side(one), _Side(other))
    while True:
        ends = [end for side in sides if (end := side.complete_before()) is not None]
        bound = min(ends, default=None)
        first, second = (side.take(bound) for side in sides)
        if first.height and second.height:
            yield first, second
        if bound is None:
            return


class _Side:
    """What is read of a table and not yet taken."""

    def __init__(self, parts: Iterable[pl.DataFrame]) -> None:
        self._parts = iter(parts)
        self._read: pl.DataFrame | None = None

    def complete_before(self) -> int | None:
        """A sample before which all is read, some at least; None once everything is."""
        while self._read is None or self._read.is_empty() or self._read["sample"][0] == self._read["sample"][-1]:
            part = next(self._parts, None)
            if part is None:
                return None
            self._read = part if self._read is None else pl.concat([self._read, part])
        return int(self._read["sample"][-1])

    def take(self, bound: int | None) -> pl.DataFrame:
        """Give away the rows of the samples before this one, or all."""
        read = pl.DataFrame(schema={"sample": pl.Int32}) if self._read is None else self._read
        rows = read.height if bound is None else int(read["sample"].search_sorted(bound, side="left"))
        self._read = read[rows:]
        return read[:rows]


def _shares(counts: pl.DataFrame, of: str, settings: BootstrapSettings) -> pl.DataFrame:
    """Share of each before and after by layer, and, with null for both, of what is not what it was."""
    samples = np.unique(counts["sample"].to_numpy())
    parts = []
    for layer in (None, *counts["layer"].unique().sort()):
        own = counts if layer is None else counts.filter(pl.col("layer") == layer)
        parts.append(_layer(own, samples, settings).with_columns(layer=pl.lit(layer, dtype=pl.Int16)))
    found = pl.concat(parts)
    if of == "type":
        names = pl.Series(TYPES)
        return found.with_columns(names.gather(found[kind]).alias(kind) for kind in _KINDS)
    return found.with_columns(pl.col(_KINDS).cast(pl.String))


def _layer(counts: pl.DataFrame, samples: NDArray[np.integer], settings: BootstrapSettings) -> pl.DataFrame:
    groups = counts.select(*_KINDS).unique().sort(*_KINDS)
    columns = counts.select(*_KINDS).join(groups.with_row_index("column"), on=_KINDS, maintain_order="left")["column"]
    places = np.searchsorted(samples, counts["sample"].to_numpy()) * groups.height + columns.to_numpy()
    rows = np.bincount(places, counts["rows"].to_numpy(), len(samples) * groups.height).reshape(len(samples), -1)
    before, after = (groups[kind].to_numpy() for kind in _KINDS)
    other: Array = rows[:, before != after].sum(axis=1, keepdims=True)
    of_before = (before[:, None] == before).astype(np.float64)
    top = np.concatenate([rows, other], axis=1)
    bottom = np.concatenate([rows @ of_before, rows.sum(axis=1, keepdims=True)], axis=1)
    with_moved = pl.concat([groups, pl.DataFrame({kind: [None] for kind in _KINDS}, schema=groups.schema)])
    return share_table(with_moved, top, bottom, settings).with_columns(count=pl.Series(top.sum(axis=0)))
