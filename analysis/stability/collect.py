"""Whether the selection would be another: by how ties are broken, and by how precisely scores are computed.

A key is lost to a rounding only if no way to break ties among the exact scores explains it: the rounded selection is
compared with the nearest of the selections that topk could have made, the model's own S_t being one of them. Keys that
become equal by rounding alone are taken earliest first, as a topk may, and what that changes counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from indexscope.analysis.closeup.collect import CloseupSample, Collected, Collector, Maker, Tables
from indexscope.analysis.closeup.order import choice, own_priority, top
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.closeup.weighted import Queries, grouped, of_queries
from indexscope.analysis.stability.rerun import rerun_samples
from indexscope.analysis.stability.rounding import ROUNDINGS, TIES, latest
from indexscope.analysis.stability.tables import COLLECTED, SELECTION_STABILITY

VARIANTS = (TIES, *ROUNDINGS)


def stability_collector() -> Maker:
    """Makes the table ``selection_stability``: of queries in effect, in layers with index scores of their own."""
    return _Stability


class _Stability(Collector):
    def __init__(self, sample: CloseupSample) -> None:
        self.sample = sample.index
        self.parts: list[Queries] = []

    def add(self, layers: Sequence[CloseupRows]) -> None:
        """Select again in every layer that has scores and a selection."""
        for rows in layers:
            if rows.scores is not None and rows.selected is not None:
                self._layer(rows, rows.scores, rows.selected)

    def _layer(self, rows: CloseupRows, scores: torch.Tensor, selected: torch.Tensor) -> None:
        up = rows.eligible & (scores > -torch.inf)
        k = (selected & up).sum(-1)
        counted = (k > 0) & (up.sum(-1) > k)
        for variant in VARIANTS:
            found = compare(variant, rows, scores, selected, up)
            self.parts.append(of_queries(rows, counted, found, variant=variant))

    def tables(self) -> Tables:
        """``selection_stability``."""
        return {"selection_stability": grouped(self.parts, SELECTION_STABILITY, self.sample)}


def compare(
    variant: str, rows: CloseupRows, scores: torch.Tensor, selected: torch.Tensor, up: torch.Tensor
) -> dict[str, torch.Tensor]:
    """One variant of each query's selection beside the selection by the exact scores.

    Returns:
        [Q] each: changed = |S less S'| / k_t; any_changed; recall_change = head-mean attention on S' less that on S;
        near_tie, whether the k-th and the (k+1)-th score of the variant are equal; tie_share, the share of S' that was
        chosen between equals. For ``ties``, S and S' are the two extremes of breaking ties among the exact scores: to
        the earliest key and to the latest.
    """
    own = selected & up
    k = own.sum(-1)
    exact = choice(scores, up, k)
    if variant == TIES:
        now, before, used = top(scores, up, k, latest(up)), top(scores, up, k), exact
    else:
        rounded = ROUNDINGS[variant](scores, up, rows.head_scores, rows.head_weights)
        now, used = top(rounded, up, k, own_priority(exact, own)), choice(rounded, up, k)
        before = exact.nearest(now, own)
    lost = (before & ~now).sum(-1)
    p = rows.p.double()
    return {
        "changed": lost / k,
        "any_changed": lost > 0,
        "recall_change": (p * now).sum(-1) - (p * before).sum(-1),
        "near_tie": used.is_tie,
        "tie_share": torch.where(used.is_tie, used.room / k, 0.0),
    }


CLOSEUP = Collected(COLLECTED, lambda look: (stability_collector(),), again=rerun_samples)
