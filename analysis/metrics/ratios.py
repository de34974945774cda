"""Tables of ratios of sums over samples, by any columns, with intervals from resampled samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.ranges import ANY, SHARE, Range
from indexscope.analysis.statistics.resampling import Array, bootstrap_ratios, interval, ratio

Rules = Mapping[str, str]
"""Column of row means to the column that it is weighted by."""


def sample_sums(
    features: Mapping[str, pl.DataFrame] | Sharded, table: str, keys: Sequence[str], rules: Rules
) -> pl.DataFrame | None:
    """Sums by sample and keys of one table, read shard by shard; None where no shard has a row of it.

    Returns:
        sample, the keys, and for each rule its name (sum of value x weight, 0 where nothing is known) and its name
        with "_weight" (sum of the weights of known values); sorted.
    """
    sums = [
        expression
        for name, weight in rules.items()
        for expression in (
            (pl.col(name) * pl.col(weight)).sum().alias(name),
            pl.col(weight).filter(pl.col(name).is_not_null()).sum().cast(pl.Float64).alias(f"{name}_weight"),
        )
    ]
    parts = [
        part[table].group_by("sample", *keys).agg(*sums)
        for part in shards(features, (table,))
        if table in part and part[table].height
    ]
    return pl.concat(parts).sort(*keys, "sample") if parts else None


def with_all_layers(sums: pl.DataFrame, pooled: Sequence[int] | None = None) -> pl.DataFrame:
    """The same with rows for all layers together, or for some of them, whose layer is null."""
    kept = sums if pooled is None else sums.filter(pl.col("layer").is_in(list(pooled)))
    return pl.concat([kept.with_columns(layer=pl.lit(None, dtype=sums.schema["layer"])), sums])


@dataclass(frozen=True)
class Cells:
    """One quantity by sample and group.

    Attributes:
        groups: Values of the keys of each column, sorted, null first.
        samples: Sample ids, increasing.
        numerator: Sums of value x weight, [samples, groups].
        denominator: Sums of weight, same shape.
    """

    groups: pl.DataFrame
    samples: NDArray[np.int64]
    numerator: Array
    denominator: Array

    @property
    def values(self) -> Array:
        """The ratios, [groups]; NaN where nothing was measured."""
        return ratio(self.numerator.sum(axis=0), self.denominator.sum(axis=0))

    @property
    def n(self) -> NDArray[np.int64]:
        """Samples with weight, [groups]."""
        return np.asarray((self.denominator > 0).sum(axis=0), dtype=np.int64)

    def replicates(self, settings: BootstrapSettings) -> Array:
        """Bootstrap replicates, [resamples, groups]; all cells of the same samples share their resamples."""
        return bootstrap_ratios(self.numerator, self.denominator, settings.resamples, settings.seed)


def cells(sums: pl.DataFrame, keys: Sequence[str], name: str) -> Cells:
    """One column of `sample_sums` as a matrix."""
    groups = sums.select(*keys).unique().sort(*keys, nulls_last=False)
    places = groups.with_row_index("place")
    columns = sums.select(*keys).join(places, on=list(keys), how="left", nulls_equal=True, maintain_order="left")
    samples, rows = np.unique(sums["sample"].to_numpy(), return_inverse=True)
    numerator, denominator = np.zeros((2, len(samples), groups.height))
    at = (rows, columns["place"].to_numpy())
    np.add.at(numerator, at, sums[name].to_numpy())
    np.add.at(denominator, at, sums[f"{name}_weight"].to_numpy())
    return Cells(groups, samples.astype(np.int64), numerator, denominator)


def share_table(
    groups: pl.DataFrame,
    numerator: Array,
    denominator: Array,
    settings: BootstrapSettings,
    name: str = "share",
    within: Range = SHARE,
) -> pl.DataFrame:
    """One row a group: the ratio with its interval and n (samples with weight).

    Args:
        groups: What each column is, [groups].
        numerator: Sums of value x weight, [samples, groups].
        denominator: Sums of weight, same shape.
        settings: The bootstrap.
        name: What the ratio is called.
        within: Least and greatest value of a ratio.

    Returns:
        The groups' columns, the ratio, ci_low, ci_high, n; null for whatever is not known.
    """
    values, n = ratio(numerator.sum(axis=0), denominator.sum(axis=0)), (denominator > 0).sum(axis=0)
    replicates = bootstrap_ratios(numerator, denominator, settings.resamples, settings.seed)
    low, high = interval(values, replicates, n, settings.confidence, within)
    found = {name: values, "ci_low": low, "ci_high": high}
    frame = groups.with_columns(**{column: pl.Series(column, value) for column, value in found.items()})
    return frame.with_columns(*finite_or_null(*found), n=pl.Series("n", n, dtype=pl.Int32))


def ratio_table(
    sums: pl.DataFrame,
    keys: Sequence[str],
    banded: Mapping[str, tuple[str, str]],
    settings: BootstrapSettings,
    plain: Sequence[str] = (),
    within: Mapping[str, Range] = MappingProxyType({}),
) -> pl.DataFrame:
    """One row a group: ratios with and without intervals, and n (samples with weight for the first of them).

    Args:
        sums: Rows of `sample_sums`.
        keys: What tells groups apart.
        banded: Quantities with the names of their interval's columns.
        settings: The bootstrap.
        plain: Quantities without intervals.
        within: Least and greatest values of those that have any.

    Returns:
        The keys, the quantities with their intervals, n; null for whatever is not known.
    """
    columns: dict[str, Array] = {}
    counts: NDArray[np.int64] | None = None
    for name, (low_name, high_name) in banded.items():
        own = cells(sums, keys, name)
        replicates = own.replicates(settings)
        low, high = interval(own.values, replicates, own.n, settings.confidence, within.get(name, ANY))
        columns |= {name: own.values, low_name: low, high_name: high}
        counts = own.n if counts is None else counts
    columns |= {name: cells(sums, keys, name).values for name in plain}
    groups = sums.select(*keys).unique().sort(*keys, nulls_last=False)
    frame = groups.with_columns(**{name: pl.Series(name, value) for name, value in columns.items()})
    return frame.with_columns(*finite_or_null(*columns), n=pl.Series("n", counts, dtype=pl.Int32))
