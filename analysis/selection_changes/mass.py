"""How much of a model's dense attention lies on the keys that were dropped and added.

Which attention? The baseline's: it says what the keys were worth to the model that is held as right, in hidden states
that no candidate has touched. A candidate's own attention is a poor judge of what it dropped, since training lets the
attention follow the selection; it is measured beside it where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.selection_changes.attended import SHIFT, Attended, unpacked
from indexscope.analysis.selection_changes.pairs import KEPT, Integers, Pairs
from indexscope.analysis.statistics.resampling import Array, ratio


@dataclass(frozen=True)
class Mass:
    """Dense attention on the keys of a block's rows.

    Attributes:
        weight: Queries that each row stands for among those whose attention is stored, [rows]; 0 for other rows. Where
            selections and attention are of unequally many queries it is what one of the fewer stands for.
        each: Attention on each of the pairs' keys; 0 for keys of other rows.
        estimated: What of it is an estimate, same length: keys beyond those that are stored share evenly what is left.
    """

    weight: Array
    each: Array
    estimated: Array


def mass_of(pairs: Pairs, attended: pl.DataFrame | None, own: int) -> Mass:
    """Attention on every key that either model selects.

    Args:
        pairs: The block.
        attended: The close-up's table of the model whose attention it is; None without one.
        own: Which keys, beside those that both select, that model selects: `DROPPED` ones for the baseline.
    """
    weight, each, estimated = np.zeros(pairs.rows.height), np.zeros(len(pairs.key)), np.zeros(len(pairs.key))
    cells = _cells(pairs, attended)
    if cells.is_empty():
        return Mass(weight, each, estimated)
    row = cells["row"].to_numpy().astype(np.int64)
    weight[row] = cells.select(pl.max_horizontal("weight", "weight_attended")).to_series().to_numpy()
    place = np.full(pairs.rows.height, -1, dtype=np.int64)
    place[row] = np.arange(len(row))
    at = np.flatnonzero(place[pairs.row] >= 0)
    where = place[pairs.row[at]]
    of = unpacked(cells)
    found = of.of((where << SHIFT) + pairs.key[at])
    missing, chosen = np.isnan(found), np.isin(pairs.state[at], (KEPT, own))
    left = np.where(missing, _rest(cells, of, where, missing, chosen), 0.0)
    each[at], estimated[at] = np.where(missing, left, found), left
    return Mass(weight, each, estimated)


def _cells(pairs: Pairs, attended: pl.DataFrame | None) -> pl.DataFrame:
    """The rows whose attention is stored, with it."""
    if attended is None:
        return pl.DataFrame()
    own = attended.filter(pl.col("sample").is_in(pairs.samples))
    mine = pairs.rows.with_row_index("row").filter(pl.col("unit") == "token")
    place = ["sample", "layer", "query"]
    return mine.join(own, on=place, how="inner", suffix="_attended", maintain_order="left")


def _rest(
    cells: pl.DataFrame, of: Attended, where: Integers, missing: NDArray[np.bool_], chosen: NDArray[np.bool_]
) -> Array:
    """What a key that is not stored holds if all of its kind, selected or not, hold the same."""
    chosen_missing = np.bincount(where[chosen & missing], minlength=cells.height).astype(np.float64)
    all_missing = cells["eligible"].to_numpy() - cells["kept"].to_numpy().astype(np.float64)
    selected = ratio(of.selected_rest, chosen_missing)
    unselected = ratio(of.unselected_rest, np.maximum(all_missing - chosen_missing, 0.0))
    return np.nan_to_num(np.where(chosen, selected[where], unselected[where]))
