"""How many keys reach a share of the attention, the share that k keys reach, and how scores drift with position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.collect import CloseupSample, Collected, Collector, Maker, Tables
from indexscope.analysis.closeup.order import held
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.closeup.stacked import Stacked, stacked
from indexscope.analysis.closeup.weighted import Groups, Queries, array, grouped, of_queries
from indexscope.analysis.key_budget.tables import COLLECTED, KEYS_NEEDED, RECALL_AT_K, SCORE_DRIFT

IN_EFFECT = [name for name, weight in SCORE_DRIFT.weights.items() if weight == "weight_in_effect"]
TARGETS = (0.90, 0.95, 0.99)
"""Shares of the head-mean attention that a query's keys are to hold."""


def budget_grid(length: int) -> list[int]:
    """Budgets k that are tried for a sequence: 2^i and 3 x 2^i up to the first that selects everything.

    >>> budget_grid(13)
    [1, 2, 3, 4, 6, 8, 12, 16]
    """
    powers = range(length.bit_length() + 1)
    steps = sorted({1, *(2**i for i in powers), *(3 * 2**i for i in powers)})
    return steps[: int(np.searchsorted(steps, length)) + 1]


def budget_collector() -> Maker:
    """Makes the tables ``keys_needed`` and ``recall_at_k``; of models without an indexer, what the oracle needs.

    Layers in which a query cannot attend to all tokens before it (sliding windows) are left out.
    """
    return _Budget


class _Budget(Collector):
    def __init__(self, sample: CloseupSample) -> None:
        self.sample = sample.index
        self.grid = np.array(budget_grid(len(sample.input_ids)))
        self.end = int(sample.queries[-1])
        self.partial: set[int] = set()
        self.last: dict[int, int] = {}
        self.needed: list[Queries] = []
        self.curves: list[Queries] = []

    def add(self, layers: Sequence[CloseupRows]) -> None:
        """Count keys and masses of the queries that have any eligible key."""
        for rows in layers:
            self.last[rows.layer] = int(rows.query[-1])
            if bool((rows.n.cpu() <= rows.query).any()):
                self.partial.add(rows.layer)
        for some in stacked(layers):
            oracle = held(some.p, some.eligible)
            indexer = None if some.scores is None else held(some.p, some.eligible, some.scores)
            self.needed += _needed(some, oracle, indexer)
            self.curves.append(_curve(some, self.grid, oracle, indexer))

    def tables(self) -> Tables:
        """``keys_needed`` and ``recall_at_k``."""
        # A sliding layer is seen until its window is full, however late that is in a chunk: it is left out whole.
        whole = [layer for layer, last in self.last.items() if last == self.end and layer not in self.partial]
        needed, curves = (
            [part.of(np.isin(part.at("layer"), whole)) for part in parts] for parts in (self.needed, self.curves)
        )
        return {
            "keys_needed": grouped(needed, KEYS_NEEDED, self.sample, lambda groups: {"own_k": groups.most("own_k")}),
            "recall_at_k": grouped(curves, RECALL_AT_K, self.sample),
        }


def _needed(rows: Stacked, oracle: torch.Tensor, indexer: torch.Tensor | None) -> list[Queries]:
    """Keys until each target is reached, and what they hold, of each query."""
    unknown = torch.full(rows.n.shape, torch.nan, dtype=torch.float64)
    selected = rows.eligible if rows.selected is None else rows.selected
    mass = rows.p.double()
    # Groups of heads that select for themselves have no selection in common.
    found = {
        "eligible": rows.n,
        "attended": rows.k if rows.whole else unknown,
        "own_k": unknown if rows.selected is None else rows.k,
        "own_recall": (mass * selected).sum(-1) / mass.sum(-1) if rows.whole else unknown,
    }
    reached = [(name, *_reached(shares, rows)) for name, shares in (("oracle", oracle), ("indexer", indexer))]
    parts = []
    for place, target in enumerate(TARGETS):
        for name, keys, masses in reached:
            found |= {f"{name}_keys": keys[place], f"{name}_mass": masses[place]}
        parts.append(of_queries(rows, rows.n > 0, found, target=target))
    return parts


def _reached(shares: torch.Tensor | None, rows: Stacked) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys until each target is reached, and what these hold, [targets, Q]; NaN without an order."""
    if shares is None:
        unknown = torch.full((len(TARGETS), len(rows.n)), torch.nan, dtype=torch.float64)
        return unknown, unknown
    targets = torch.tensor(TARGETS, dtype=shares.dtype, device=shares.device)
    short = torch.searchsorted(shares, targets.expand(len(shares), -1).contiguous())
    return (short + 1).T, shares.gather(-1, short.clamp(max=shares.shape[-1] - 1)).T


def _curve(rows: Stacked, grid: NDArray[np.int64], oracle: torch.Tensor, indexer: torch.Tensor | None) -> Queries:
    """What every budget of the grid holds, of each query that has keys."""
    size = len(grid)
    kept = torch.minimum(torch.from_numpy(grid).to(rows.n.device), rows.n.unsqueeze(-1))
    place = (kept - 1).clamp(min=0)
    found = {
        "weight": np.repeat(array(rows.weight), size),
        "kept": array(kept).ravel(),
        "oracle_recall": array(oracle.gather(-1, place)).ravel(),
        "indexer_recall": np.full(kept.numel(), np.nan)
        if indexer is None
        else array(indexer.gather(-1, place)).ravel(),
    }
    everywhere = Queries({"layer": np.repeat(rows.layer, size), "k": np.tile(grid, len(rows.layer))}, found)
    return everywhere.of(np.repeat((rows.n > 0).cpu().numpy(), size))


CLOSEUP = Collected(COLLECTED, lambda look: (budget_collector(), drift_collector()))


def drift_collector() -> Maker:
    """Makes the table ``score_drift``: of queries with at least two scored keys."""
    return _Drift


class _Drift(Collector):
    def __init__(self, sample: CloseupSample) -> None:
        self.sample = sample.index
        self.parts: list[Queries] = []

    def add(self, layers: Sequence[CloseupRows]) -> None:
        """Measure the scores of the layers that have any."""
        for rows in stacked(layers):
            if rows.scores is not None:
                up = rows.eligible & rows.scores.isfinite()
                self.parts.append(of_queries(rows, up.sum(-1) > 1, score_shape(rows.scores, up, rows.selected)))

    def tables(self) -> Tables:
        """``score_drift``."""
        return {"score_drift": grouped(self.parts, SCORE_DRIFT, self.sample, _in_effect)}


def _in_effect(groups: Groups) -> dict[str, NDArray[np.float64]]:
    """How many queries of each group have a margin, and what they stand for."""
    known = ~np.isnan(groups.values("margin"))
    return {"queries_in_effect": groups.sum(known), "weight_in_effect": groups.known("margin")}


def score_shape(scores: torch.Tensor, up: torch.Tensor, selected: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Moments of each query's index scores, of all its scored keys and of those selected and not.

    Args:
        scores: I, [Q, K].
        up: Keys up for selection, same shape.
        selected: S_t, same shape; None where that is not known.

    Returns:
        [Q] each, float64: mean and sd (of the population) over E_t, zero_share; threshold (the k-th score), margin =
        (k-th score - best one not selected) / sd, 0 where the two are equal, and the moments of both groups: NaN where
        everything or nothing is selected.
    """
    chosen = up if selected is None else up & selected
    mean, sd = _moments(scores, up)
    inside, outside = _moments(scores, chosen), _moments(scores, up & ~chosen)
    kth = scores.double().masked_fill(~chosen, torch.inf).amin(-1)
    rival = scores.double().masked_fill(chosen | ~up, -torch.inf).amax(-1)
    in_effect = kth.isfinite() & rival.isfinite()
    margin = torch.where(kth == rival, 0.0, (kth - rival) / sd)
    found = (kth, margin, *inside, *outside)
    return {
        "mean": mean,
        "sd": sd,
        "zero_share": ((scores == 0) & up).sum(-1) / up.sum(-1),
        **{name: torch.where(in_effect, value, torch.nan) for name, value in zip(IN_EFFECT, found, strict=True)},
    }


def _moments(scores: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    known = scores.double().masked_fill(~mask, 0.0)
    count = mask.sum(-1)
    mean = known.sum(-1) / count
    return mean, ((known - mean.unsqueeze(-1)).square() * mask).sum(-1).div(count).sqrt()
