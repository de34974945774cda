"""How the index scores of one query are distributed, by the query's position: drift along the sequence."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import torch

from indexscope.analysis.budget.tables import SCORE_DRIFT
from indexscope.analysis.probe.collect import Collector, Maker, ProbedSample, Tables
from indexscope.analysis.probe.rows import ProbeRows
from indexscope.analysis.probe.weighted import grouped, means, query_rows

IN_EFFECT = [name for name, weight in SCORE_DRIFT.weights.items() if weight == "weight_in_effect"]


def drift_collector() -> Maker:
    """Makes the table ``score_drift``: of queries with at least two scored keys."""
    return _Drift


class _Drift(Collector):
    def __init__(self, sample: ProbedSample) -> None:
        self.sample = sample.index
        self.parts: list[pl.DataFrame] = []

    def add(self, layers: Sequence[ProbeRows]) -> None:
        """Measure the scores of the layers that have any."""
        for rows in layers:
            if rows.scores is not None:
                up = rows.eligible & rows.scores.isfinite()
                self.parts.append(query_rows(rows, up.sum(-1) > 1, score_shape(rows.scores, up, rows.selected)))

    def tables(self) -> Tables:
        """``score_drift``."""
        in_effect = pl.col("margin").is_not_null()
        measured = [
            *(means(name) for name in SCORE_DRIFT.weights),
            in_effect.sum().alias("queries_in_effect"),
            pl.col("weight").filter(in_effect).sum().alias("weight_in_effect"),
        ]
        return {"score_drift": grouped(self.parts, measured, SCORE_DRIFT, self.sample)}


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
