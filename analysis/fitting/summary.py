"""Held-out numbers of a fit, with intervals over the held-out samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from indexscope.analysis.fitting.measure import Sums
from indexscope.analysis.fitting.tables import HELD_OUT
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.resampling import bootstrap_ratios, interval, ratio

_WEIGHT = "queries_in_effect"
#: Numbers of a summary, each a quotient of sums over queries: name, above, below.
QUOTIENTS = {
    "selection_recall": (("selection",), (_WEIGHT,)),
    "oracle_recall": (("oracle",), (_WEIGHT,)),
    "random_recall": (("random",), (_WEIGHT,)),
    "recall_of_oracle": (("selection",), ("oracle",)),
    "selection_skill": (("selection", "-random"), ("oracle", "-random")),
    "kl": (("divergence",), ("queries",)),
}


def held_out_rows(
    step: int, attention: str, indexer: str, found: Sequence[Sums], topk: Sequence[int]
) -> list[dict[str, Any]]:
    """Rows of `HELD_OUT`; a layer in which no query has more than topk keys has none for it."""
    rows = []
    for sample, sums in enumerate(found):
        for (layer, k), (selected, oracle, random, count) in sorted(sums.recalls.items()):
            divergence, queries = sums.kl[layer]
            if k in topk and count:
                rows.append(
                    {
                        "step": step, "attention": attention, "indexer": indexer, "topk": k, "layer": layer,
                        "sample": sample, _WEIGHT: count, "selection_recall": selected / count,
                        "oracle_recall": oracle / count, "random_recall": random / count, "queries": queries,
                        "kl": divergence / queries,
                    }
                )  # fmt: skip
    return rows


def held_out_table(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """The table, sorted by its key."""
    return pl.DataFrame(rows, schema=HELD_OUT.schema).sort(HELD_OUT.key)


def summarised(rows: pl.DataFrame, by: Sequence[str], bootstrap: BootstrapSettings | None = None) -> pl.DataFrame:
    """Ratios of sums over all queries of each group, with bootstrap intervals over the samples.

    Args:
        rows: Of `HELD_OUT`.
        by: Columns that tell groups apart.
        bootstrap: Resamples, confidence and seed.

    Returns:
        A row a group in order: its columns, samples, and for each of `QUOTIENTS` the value, ``…_low`` and ``…_high``.
    """
    settings = bootstrap or BootstrapSettings()
    weighted = rows.with_columns(
        (pl.col(f"{name}_recall") * pl.col(_WEIGHT)).alias(name) for name in ("selection", "oracle", "random")
    ).with_columns((pl.col("kl") * pl.col("queries")).alias("divergence"))
    parts = ("selection", "oracle", "random", "divergence", _WEIGHT, "queries")
    found = []
    for key, group in weighted.group_by(by, maintain_order=True):
        sums = group.group_by("sample").agg(pl.col(name).sum() for name in parts).sort("sample")
        row: dict[str, Any] = dict(zip(by, key, strict=True)) | {"samples": len(sums)}
        for name, (above, below) in QUOTIENTS.items():
            top, bottom = (_total(sums, names)[:, None] for names in (above, below))
            value = ratio(top.sum(0), bottom.sum(0))
            draws = bootstrap_ratios(top, bottom, settings.resamples, settings.seed)
            low, high = interval(value, draws, np.array([len(sums)]), settings.confidence)
            row |= {name: float(value[0]), f"{name}_low": float(low[0]), f"{name}_high": float(high[0])}
        found.append(row)
    return pl.DataFrame(found).sort(by) if found else pl.DataFrame()


def _total(sums: pl.DataFrame, names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    parts = [
        sums[name.removeprefix("-")].cast(pl.Float64).to_numpy() * (-1.0 if name.startswith("-") else 1.0)
        for name in names
    ]
    total: np.ndarray[Any, np.dtype[np.float64]] = np.sum(parts, axis=0)
    return total
