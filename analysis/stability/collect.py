"""Whether the selection would be another: by how ties are broken, and by how precisely scores are computed.

A key is lost to a rounding only if no way to break ties among the exact scores explains it: the rounded selection is
compared with the nearest of the selections that topk could have made, the model's own S_t being one of them. Keys that
become equal by rounding alone are taken earliest first, as a topk may, and what that changes counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from indexscope.analysis.closeup.collect import CloseupSample, Collected, Collector, Maker, Rerun, Tables
from indexscope.analysis.closeup.order import choice, earliest, own_priority
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.closeup.stacked import Stacked, stacked
from indexscope.analysis.closeup.weighted import Queries, grouped, of_queries
from indexscope.analysis.stability.rerun import rerun_some
from indexscope.analysis.stability.rounding import ROUNDINGS, TIES, latest
from indexscope.analysis.stability.tables import COLLECTED, RERUN_TABLES, SELECTION_STABILITY

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
        for rows in stacked(layers):
            if rows.scores is not None and rows.selected is not None:
                up = rows.eligible & (rows.scores > -torch.inf)
                k = (rows.selected & up).sum(-1)
                self._select(rows.of((k > 0) & (up.sum(-1) > k)))

    def _select(self, rows: Stacked) -> None:
        """Select again at queries in effect."""
        if rows.scores is None or rows.selected is None or not len(rows.layer):
            return
        up = rows.eligible & (rows.scores > -torch.inf)
        found = compare(rows, rows.scores, rows.selected & up, up)
        for place, variant in enumerate(VARIANTS):
            values = {name: value[place] for name, value in found.items()}
            self.parts.append(of_queries(rows, rows.n > 0, values, variant=variant))

    def tables(self) -> Tables:
        """``selection_stability``."""
        return {"selection_stability": grouped(self.parts, SELECTION_STABILITY, self.sample)}


def compare(rows: Stacked, scores: torch.Tensor, own: torch.Tensor, up: torch.Tensor) -> dict[str, torch.Tensor]:
    """Each variant of each query's selection beside the selection by the exact scores.

    Args:
        rows: Layers at the sampled queries.
        scores: Their index scores, [R, K].
        own: Keys up for selection that the model selects, [R, K].
        up: Keys up for selection, [R, K].

    Returns:
        [VARIANTS, R] each: changed = |S less S'| / k_t; any_changed; recall_change = head-mean attention on S' less
        that on S; near_tie, whether the k-th and the (k+1)-th score of the variant are equal; tie_share, the share of
        S' that was chosen between equals. For ``ties``, S and S' are the two extremes of breaking ties among the exact
        scores: to the earliest key and to the latest.
    """
    k = own.sum(-1)
    exact = choice(scores, up, k)
    rounded = [as_rounded(scores, up, rows.head_scores, rows.head_weights) for as_rounded in ROUNDINGS.values()]
    used = choice(torch.stack(rounded), up, k)
    chosen = used.by(own_priority(exact, own))
    now = torch.cat([exact.by(latest(up))[None], chosen])
    before = torch.cat([exact.by(earliest(up))[None], exact.nearest(chosen, own)])
    lost = (before & ~now).sum(-1)
    is_tie = torch.cat([exact.is_tie[None], used.is_tie])
    return {
        "changed": lost / k,
        "any_changed": lost > 0,
        "recall_change": (rows.p.double() * (now.double() - before.double())).sum(-1),
        "near_tie": is_tie,
        "tie_share": is_tie * torch.cat([exact.room[None], used.room]) / k,
    }


CLOSEUP = Collected(COLLECTED, lambda look: (stability_collector(),), Rerun(RERUN_TABLES, rerun_some))
