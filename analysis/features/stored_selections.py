"""The stored selections of sampled queries: how a table of them is read, and two models side by side.

Keys are written as in `indexscope.analysis.statistics.varint`. With zstd that is 0.34 to 1.0 bytes a key, at most 8 %
above log2 C(n_t, k_t) bits where the selection is random. Bitmaps are 12 % smaller at 512 tokens, but 11 % larger at
4,096 and 55 % at 131,072; Parquet's own lists of gaps are 31 to 58 % larger.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from indexscope.analysis.statistics.varint import decode_rows
from indexscope.columns import of, places, table_of
from indexscope.errors import IndexscopeError

ROW = ("sample", "layer", "group", "query")
SELECTIONS = table_of(
    "sample, layer, group, query",
    "sample layer group query",
    of(pl.Int16, group="0, or the group of attention heads where each group selects for itself."),
    places("query"),
    of(pl.String, unit="What a key is: a token, or an entry (a compressed block)."),
    of(
        pl.Int32,
        "keys",
        eligible="Keys that the query may select from.",
        selected="Keys that were selected.",
    ),
    of(pl.Int32, "queries", weight="Queries of the sample that it stands for."),
    of(pl.Binary, keys="The selected keys, ascending, as differences in LEB128."),
)


def with_keys(table: pl.DataFrame) -> pl.DataFrame:
    """A table of selections with ``keys`` as what they are, List(UInt32), ascending.

    Raises:
        IndexscopeError: A column is missing, or a row is no selection (bytes that are cut off, keys that repeat, that
            follow the query, or that are not as many as the row says).
    """
    missing = [name for name in SELECTIONS.schema if name not in table.columns]
    if missing:
        raise IndexscopeError("selections", f"lacks the column {missing[0]}", "read the features' table selections")
    keys, counts, sound = decode_rows(table["keys"].fill_null(b"").to_list())
    offsets = np.concatenate(([0], np.cumsum(counts)))
    largest = np.zeros(len(table), dtype=np.int64)
    largest[counts > 0] = keys[offsets[1:][counts > 0] - 1]
    limit = pl.when(pl.col("unit") == "token").then(pl.col("query")).otherwise(np.iinfo(np.int32).max)
    damaged = table.filter(
        ~(
            pl.Series(sound)
            & (pl.Series(counts) == pl.col("selected"))
            & (pl.col("selected") <= pl.col("eligible"))
            & (pl.Series(largest) <= limit)
            & pl.col("keys").is_not_null()
        ).fill_null(False)
    )
    if len(damaged):
        row = ", ".join(f"{name} {value}" for name, value in zip(ROW, damaged.select(ROW).row(0), strict=True))
        raise IndexscopeError(
            "selections", f"{len(damaged)} rows hold no selection, the first is {row}", "extract the features again"
        )
    lists = pl.Series(pa.LargeListArray.from_arrays(offsets, keys.astype(np.uint32)))
    return table.with_columns(keys=lists)


def compare_selections(baseline: pl.DataFrame, candidate: pl.DataFrame) -> pl.DataFrame:
    """What two models select for the same queries.

    Only layers and groups in which both select are compared. Keys that a family forces (window, tail, local blocks)
    are part of both selections.

    Args:
        baseline: The baseline's table ``selections``.
        candidate: The candidate's, of the same samples.

    Returns:
        Per sample, layer, group and query: unit, eligible (n_t), baseline_selected and candidate_selected (k_t),
        ``kept`` keys that both select, ``dropped`` ones that only the baseline and ``added`` ones that only the
        candidate selects, ``jaccard`` = kept / (kept + dropped + added), and ``in_effect``: whether either model
        leaves a key out. Where it is false the agreement says nothing.

    Raises:
        IndexscopeError: The tables differ in queries, units or eligible keys, share no layer, or are damaged.
    """
    kept = pl.col("keys").list.set_intersection("keys_candidate").list.len().cast(pl.Int32)
    return (
        pair_selections(baseline, candidate)
        .with_columns(kept=kept)
        .select(
            *(*ROW, "unit", "eligible"),
            pl.col("selected").alias("baseline_selected"),
            pl.col("selected_candidate").alias("candidate_selected"),
            "kept",
            dropped=pl.col("selected") - pl.col("kept"),
            added=pl.col("selected_candidate") - pl.col("kept"),
            jaccard=(pl.col("kept") / (pl.col("selected") + pl.col("selected_candidate") - pl.col("kept"))).fill_nan(
                None
            ),
            in_effect=pl.min_horizontal("selected", "selected_candidate") < pl.col("eligible"),
        )
    )


def changed_keys(baseline: pl.DataFrame, candidate: pl.DataFrame) -> pl.DataFrame:
    """The keys themselves that a candidate drops and adds, for the queries whose selection changed.

    Returns:
        Per sample, layer, group and query: unit, ``dropped`` and ``added``, List(UInt32) and ascending.

    Raises:
        IndexscopeError: As for `compare_selections`.
    """
    return (
        pair_selections(baseline, candidate)
        .select(
            *(*ROW, "unit"),
            dropped=pl.col("keys").list.set_difference("keys_candidate").list.sort(),
            added=pl.col("keys_candidate").list.set_difference("keys").list.sort(),
        )
        .filter((pl.col("dropped").list.len() > 0) | (pl.col("added").list.len() > 0))
    )


def pair_selections(baseline: pl.DataFrame, candidate: pl.DataFrame) -> pl.DataFrame:
    """The rows of both tables side by side, ``keys`` as lists, what is the candidate's with the suffix ``_candidate``.

    Raises:
        IndexscopeError: As for `compare_selections`.
    """
    remedy = "extract both with the same dataset and extract settings"
    one, other = with_keys(baseline), with_keys(candidate)
    for name, table in (("baseline", one), ("candidate", other)):
        if table.select(ROW).is_duplicated().any():
            raise IndexscopeError("selections", f"the {name} has two rows for one query", "read every unit once")
    cells = ["layer", "group"]
    apart = one.join(other, on=cells, how="semi"), other.join(one, on=cells, how="semi")
    if len(one) + len(other) and not len(apart[0]):
        raise IndexscopeError("selections", "there is no layer in which both models select", "compare other models")
    unmatched = pl.concat(
        [first.join(second, on=ROW, how="anti").select(ROW) for first, second in (apart, apart[::-1])]
    ).sort(ROW)
    if len(unmatched):
        sample, layer, _, query = unmatched.row(0)
        raise IndexscopeError(
            "selections",
            f"{len(unmatched)} queries are stored for one model only (the first: sample {sample}, layer {layer}, "
            f"query {query})",
            remedy,
        )
    rows = apart[0].join(apart[1], on=ROW, how="inner", suffix="_candidate").sort(ROW)
    for name in ("unit", "eligible"):
        unequal = rows.filter(pl.col(name) != pl.col(f"{name}_candidate"))
        if len(unequal):
            sample, layer, _, query = unequal.select(ROW).row(0)
            values = " and ".join(str(value) for value in unequal.select(name, f"{name}_candidate").row(0))
            raise IndexscopeError(
                "selections",
                f"the models differ in {name} at sample {sample}, layer {layer}, query {query} ({values})",
                remedy if name == "eligible" else "compare models whose indexers score the same entries",
            )
    return rows
