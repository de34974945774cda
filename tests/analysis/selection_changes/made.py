"""Stored selections and attention of made-up models, written key by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.features.stored_selections import ROW, SELECTIONS
from indexscope.analysis.selection_changes.attended import ATTENDED, TOKEN_KINDS, packed, packed_kinds
from indexscope.analysis.statistics.varint import encode_rows

Selected = Mapping[tuple[int, int, int, int], Sequence[int]]
"""Keys by sample, layer, group and query."""
Weights = Mapping[int, int]
"""What a query stands for, by its position; 1 where that is not said."""


def selections(
    selected: Selected, unit: str = "token", eligible: int | None = None, weights: Weights | None = None
) -> pl.DataFrame:
    """A features' table of these keys, every key up to the query eligible unless it is said how many are."""
    rows = []
    for cell, keys in selected.items():
        data = encode_rows(np.array(sorted(keys), dtype=np.int64), np.array([len(keys)]))[0]
        n, weight = cell[3] + 1 if eligible is None else eligible, (weights or {}).get(cell[3], 1)
        rows.append((*cell, unit, n, len(keys), weight, data))
    return pl.DataFrame(rows, schema=SELECTIONS.schema, orient="row").sort(ROW)


def attended(
    selected: Selected,
    attention: Mapping[tuple[int, int, int], NDArray[np.float64]],
    count: int,
    weights: Weights | None = None,
) -> pl.DataFrame:
    """A close-up's table of the ``count`` most attended keys, attention [query + 1] by sample, layer and query."""
    rows = []
    for (sample, layer, query), mass in attention.items():
        keys = np.sort(np.argsort(-mass, kind="stable")[:count])
        rest = np.delete(np.arange(len(mass)), keys)
        chosen = np.isin(rest, selected[sample, layer, 0, query])
        data = packed(keys, mass[keys], np.array([len(keys)]))
        rests = float(mass[rest[chosen]].sum()), float(mass[rest[~chosen]].sum())
        weight = (weights or {}).get(query, 1)
        rows.append((sample, layer, query, len(keys), *rests, weight, data["keys"][0], data["mass"][0]))
    return pl.DataFrame(rows, schema=ATTENDED.schema, orient="row").sort("sample", "layer", "query")


def token_kinds(samples: Mapping[int, Sequence[int]], classes: Sequence[int] | None) -> pl.DataFrame:
    """A close-up's table: token ids by sample, and the class code of each id."""
    rows = []
    for sample, ids in samples.items():
        codes = None if classes is None else np.asarray(classes)[list(ids)]
        rows.append((sample, len(ids), *packed_kinds(codes, np.array(ids, dtype=np.int64))))
    return pl.DataFrame(rows, schema=TOKEN_KINDS.schema, orient="row")


def names(samples: Sequence[int]) -> pl.DataFrame:
    """A features' table ``samples``."""
    return pl.DataFrame({"sample": list(samples), "name": [f"text {sample}" for sample in samples]})
