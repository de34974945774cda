"""Sums of what two models choose, by sample, layer, position and bin: what means and their uncertainty are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.selection_changes.bins import SIZES, Binned, Kinds, binned, octave
from indexscope.analysis.selection_changes.mass import mass_of
from indexscope.analysis.selection_changes.pairs import ADDED, DROPPED, KEPT, Integers, Pairs
from indexscope.analysis.statistics.resampling import Array, ratio

ALL, BY_ATTENTION, BY_OWN = "compared", "attended", "attended_own"
MEASURED: Mapping[str, str] = {
    "selection_overlap_with_baseline": ALL,
    "selection_overlap_by_chance": ALL,
    "selection_kept": ALL,
    "selection_added": ALL,
    "selection_mass_lost": BY_ATTENTION,
    "selection_mass_dropped": BY_ATTENTION,
    "selection_mass_added": BY_ATTENTION,
    "selection_mass_estimated": BY_ATTENTION,
    "selection_mass_lost_own": BY_OWN,
}
"""Every quantity of a query and the weight that it is averaged with."""
WEIGHTS = (ALL, BY_ATTENTION, BY_OWN)
QUANTITIES = (
    "kept",
    "dropped",
    "dropped_expected",
    "added",
    "added_expected",
    "eligible",
    "mass_dropped",
    "mass_added",
    "attended",
)
"""What is summed in a bin, each times the queries that the row stands for; attended is the sum of these alone."""


def jaccard_by_chance(eligible: Integers, before: Integers, after: Integers) -> Array:
    """Expected Jaccard similarity of a selection with a random one, of each query.

    A random selector that takes k' of n keys shares X of the k that are selected, hypergeometric, and the Jaccard
    similarity is X / (k + k' - X); the expectation is summed exactly, since X / (k + k' - X) is not linear.

    Args:
        eligible: n_t, [rows].
        before: k_t of the one selection.
        after: k_t of the random one.

    >>> float(jaccard_by_chance(np.array([2]), np.array([1]), np.array([1]))[0])
    0.5
    """
    cells, place = np.unique(np.stack([eligible, before, after]), axis=1, return_inverse=True)
    values = [_expected(*(int(number) for number in cell)) for cell in cells.T]
    return np.array(values, dtype=np.float64)[place.ravel()]


@lru_cache(maxsize=1 << 16)
def _expected(eligible: int, before: int, after: int) -> float:
    if before + after == 0:
        return float("nan")
    shared = np.arange(max(0, before + after - eligible), min(before, after) + 1)
    # Each hypergeometric probability relative to the one before it; divided by their sum they are what they are.
    x = shared[:-1]
    steps = (before - x) * (after - x) / ((x + 1) * (eligible - before - after + x + 1))
    logs = np.concatenate(([0.0], np.cumsum(np.log(steps))))
    share = np.exp(logs - logs.max())
    return float((share * shared / (before + after - shared)).sum() / share.sum())


@dataclass(frozen=True)
class Bins:
    """Sums of one axis, each [..., quantities] in the order of `QUANTITIES`.

    Attributes:
        samples: Sample ids, increasing.
        layers: Layer ids, increasing.
        by_sample: [samples, bins, quantities].
        sample_total: Over all keys whatever their bin (kinds overlap), [samples, quantities].
        by_layer: [layers, bins, quantities].
        layer_total: [layers, quantities].
    """

    samples: Integers
    layers: Integers
    by_sample: Array
    sample_total: Array
    by_layer: Array
    layer_total: Array


class SelectionSums:
    """Adds up blocks of pairs; what is kept is some hundred numbers a sample, whatever its length.

    Args:
        attended: Dense attention of the baseline, from its close-up; None without one.
        attended_own: That of the candidate.
        kinds: Kinds of the tokens of samples of the close-up.
    """

    def __init__(self, attended: pl.DataFrame | None, attended_own: pl.DataFrame | None, kinds: Kinds) -> None:
        self._attended, self._attended_own, self._kinds = attended, attended_own, kinds
        self._by: dict[tuple[str, ...], list[pl.DataFrame]] = {}
        self._bins: dict[str, list[Bins]] = {}

    def add(self, pairs: Pairs) -> None:
        """Take a block; its samples come after those of earlier blocks."""
        mass = mass_of(pairs, self._attended, DROPPED)
        own = mass_of(pairs, self._attended_own, ADDED)
        rows = pairs.rows.height
        kept, dropped, added = (pairs.count(state) for state in (KEPT, DROPPED, ADDED))
        before, after, n = (pairs.rows[name].to_numpy().astype(np.int64) for name in ("before", "after", "eligible"))

        of = {state: np.flatnonzero(pairs.state == state) for state in (DROPPED, ADDED)}

        def held(values: Array, state: int) -> Array:
            return _placed(pairs.row[of[state]], values[of[state]], rows)

        lost = {name: held(mass.each, state) for name, state in (("dropped", DROPPED), ("added", ADDED))}
        values = {
            "selection_overlap_with_baseline": ratio(kept, kept + dropped + added),
            "selection_overlap_by_chance": jaccard_by_chance(n, before, after),
            "selection_kept": ratio(kept, before),
            "selection_added": ratio(added, after),
            "selection_mass_lost": lost["dropped"] - lost["added"],
            "selection_mass_dropped": lost["dropped"],
            "selection_mass_added": lost["added"],
            "selection_mass_estimated": held(mass.estimated, DROPPED) + held(mass.estimated, ADDED),
            "selection_mass_lost_own": held(own.each, DROPPED) - held(own.each, ADDED),
        }
        weights = {ALL: pairs.rows["weight"].to_numpy() * ((before > 0) & (after > 0))}
        weights |= {BY_ATTENTION: mass.weight, BY_OWN: own.weight}
        bucket = octave(pairs.rows["query"].to_numpy().astype(np.int64) + 1) - 1
        frame = pairs.rows.select("sample", "layer", bucket=pl.Series(bucket, dtype=pl.Int8))
        frame = frame.with_columns(
            *(pl.Series(name, part) for name, part in weights.items()),
            *(
                pl.Series(name, np.where(weights[of] > 0, values[name], 0.0) * weights[of])
                for name, of in MEASURED.items()
            ),
            queries=pl.Series(np.ones(rows)),
        )
        for keys in (("sample", "layer"), ("sample", "bucket"), ("layer", "bucket")):
            self._by.setdefault(keys, []).append(_reduced(frame, keys))
        all_keys = _Keys(pairs, np.arange(len(pairs.key)))
        for part in binned(pairs, self._kinds):
            self._bins.setdefault(part.axis, []).append(_bins(pairs, all_keys, part, mass.each, mass.weight))

    def by(self, *keys: str) -> pl.DataFrame:
        """Sums of every quantity and weight by two of sample, layer and bucket."""
        parts = self._by.get(keys, [])
        return _reduced(pl.concat(parts), keys) if parts else pl.DataFrame()

    def bins(self) -> dict[str, Bins]:
        """Sums by axis."""
        return {axis: _joined(parts) for axis, parts in self._bins.items()}


def _reduced(frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Sums of all other columns by some, in the order of the rows, whatever the number of threads."""
    cells = frame.select(keys).unique().sort(keys)
    place = frame.select(keys).join(cells.with_row_index("cell"), on=keys, maintain_order="left")["cell"].to_numpy()
    sums = {
        name: np.bincount(place, frame[name].to_numpy(), minlength=cells.height)
        for name in frame.columns
        if name not in keys
    }
    return cells.with_columns(*(pl.Series(name, values) for name, values in sums.items()))


def _bins(pairs: Pairs, all_keys: _Keys, part: Binned, mass: Array, attended: Array) -> Bins:
    """A block's sums of one axis.

    What is expected depends on the query: of its own keys, as many are dropped at random as the candidate drops there,
    and as many of those that the baseline leaves out are added. Rates over all queries would not do, since queries with
    few eligible keys have more of their selection in every bin and keep more of it.
    """
    sample, layer, before, n = (
        pairs.rows[name].to_numpy().astype(np.int64) for name in ("sample", "layer", "before", "eligible")
    )
    samples, at_sample = np.unique(sample[part.rows], return_inverse=True)
    layers, at_layer = np.unique(layer[part.rows], return_inverse=True)
    cells = np.zeros(len(sample), dtype=np.int64)
    cells[part.rows] = at_sample * len(layers) + at_layer
    weight = np.where(part.rows, pairs.rows["weight"].to_numpy(), 0.0)
    attended = np.where(part.rows, attended, 0.0)
    dropping = weight * np.nan_to_num(ratio(pairs.count(DROPPED), before))
    adding = weight * np.nan_to_num(ratio(pairs.count(ADDED), n - before))
    # What each key adds: to which of the quantities, keys of which states, and how much, by row.
    by_key = {
        "kept": ((KEPT,), weight),
        "dropped": ((DROPPED,), weight),
        "dropped_expected": ((KEPT, DROPPED), dropping),
        "added": ((ADDED,), weight),
        "added_expected": ((KEPT, DROPPED), -adding),
        "mass_dropped": ((DROPPED,), attended),
        "mass_added": ((ADDED,), attended),
    }
    by_row = {"eligible": weight, "added_expected": adding}
    size, groups = SIZES[part.axis], len(samples) * len(layers)
    at, bin_ = (np.concatenate(both) for both in zip(*[(at, bin_) for bin_, at in part.parts], strict=True))
    binned_keys = _Keys(pairs, at)
    sums, total = np.zeros((groups, size, len(QUANTITIES))), np.zeros((groups, len(QUANTITIES)))
    for place, name in enumerate(QUANTITIES):
        if name in by_key:
            states, amount = by_key[name]
            each = mass if name.startswith("mass_") else None
            row, values = all_keys.of(states, amount, each)[1:]
            total[:, place] += _placed(cells[row], values, groups)
            chosen, row, values = binned_keys.of(states, amount, each)
            found = _placed(cells[row] * size + bin_[chosen], values, groups * size)
            sums[..., place] += found.reshape(groups, size)
        if name in by_row:
            total[:, place] += _placed(cells, by_row[name] * n, groups)
            np.add.at(sums[..., place], cells[part.rows], (part.eligible * by_row[name][:, None])[part.rows])
        if name == "attended":
            total[:, place] += _placed(cells, attended, groups)
    shape, quantities = (len(samples), len(layers)), len(QUANTITIES)
    cube, whole = sums.reshape(*shape, size, quantities), total.reshape(*shape, quantities)
    return Bins(samples, layers, cube.sum(axis=1), whole.sum(axis=1), cube.sum(axis=0), whole.sum(axis=0))


class _Keys:
    """Some of a block's keys, by what became of them.

    Args:
        pairs: The block.
        at: Which keys.
    """

    def __init__(self, pairs: Pairs, at: Integers) -> None:
        self._at, self._row = at, pairs.row[at]
        state = pairs.state[at]
        self._chosen: dict[tuple[int, ...], Integers] = {
            (one,): np.flatnonzero(state == one) for one in (KEPT, DROPPED, ADDED)
        }
        self._chosen[KEPT, DROPPED] = np.flatnonzero(state != ADDED)

    def of(self, states: tuple[int, ...], amount: Array, each: Array | None) -> tuple[Integers, Integers, Array]:
        """Those of some states: their places among these keys, their rows, and the amount of the row times its own."""
        chosen = self._chosen[states]
        row = self._row[chosen]
        return chosen, row, amount[row] if each is None else amount[row] * each[self._at[chosen]]


def _placed(place: Integers, values: Array, size: int) -> Array:
    return np.bincount(place, values, minlength=size).astype(np.float64)


def _joined(parts: Sequence[Bins]) -> Bins:
    layers = np.unique(np.concatenate([part.layers for part in parts]))
    by_layer = np.zeros((len(layers), *parts[0].by_layer.shape[1:]))
    layer_total = np.zeros((len(layers), len(QUANTITIES)))
    for part in parts:
        at: NDArray[np.int64] = np.searchsorted(layers, part.layers)
        by_layer[at] += part.by_layer
        layer_total[at] += part.layer_total
    return Bins(
        np.concatenate([part.samples for part in parts]),
        layers,
        np.concatenate([part.by_sample for part in parts]),
        np.concatenate([part.sample_total for part in parts]),
        by_layer,
        layer_total,
    )
