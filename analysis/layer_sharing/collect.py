"""What every layer would keep of its attention with another layer's selection."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import torch

from indexscope.analysis.closeup.collect import CloseupSample, Collected, Maker, Tables
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.layer_sharing.tables import COLLECTED, LAYER_SHARING


def sharing_collector() -> Maker:
    """Collects the table ``layer_sharing``: reuse of earlier selections, without its consequences.

    One row per sample, layer (the one that attends) and source (the one whose selection it is given), source <= layer;
    where both are the same the row is the layer's own selection. Over the layer's queries in effect, weighted by the
    queries that each stands for:

    - jaccard |S_l ∩ S_source| / |S_l ∪ S_source|, overlap |S_l ∩ S_source| / k_l;
    - recall: the layer's own dense attention of the head mean on S_source (within its E_t), own_recall the same on
      S_l, oracle_recall on its k_l best keys, random_recall k_l / n_l.

    Every layer sees the hidden states of the unchanged model. A model that really shared would feed later layers
    something else, and so the recall is that of reuse *without propagation*: exact for the first layer that reuses,
    an approximation after it.

    Layers without a selection are left out, and with them those whose groups of heads select for themselves. ``own``
    tells whether the layer has an indexer of its own; one that has none shares an earlier selection already.

    Source: Bai et al. 2026, IndexCache (arXiv 2603.12201), which measures such overlap between layers.
    """
    return _Sharing


class _Sharing:
    def __init__(self, sample: CloseupSample) -> None:
        self.sample = sample.index
        self.own: dict[int, bool] = {}
        self.queries: dict[int, int] = {}
        self.weight: dict[int, float] = {}
        self.sums: dict[tuple[int, int], torch.Tensor] = {}

    def add(self, layers: Sequence[CloseupRows]) -> None:
        """Sum the pairs of one chunk."""
        selecting = [rows for rows in layers if rows.selected is not None]
        if not selecting:
            return
        sources = [rows.layer for rows in selecting]
        keys, valid = _chosen([rows.selected for rows in selecting if rows.selected is not None])
        for place, rows in enumerate(selecting, 1):
            self.own[rows.layer] = self.own.get(rows.layer, False) or rows.scored
            counted = rows.in_effect.cpu()
            weight = torch.where(counted, rows.weight, 0.0)
            self.queries[rows.layer] = self.queries.get(rows.layer, 0) + int(counted.sum())
            self.weight[rows.layer] = self.weight.get(rows.layer, 0.0) + float(weight.sum())
            reuse = (_reuse(rows, keys[:place], valid[:place]).cpu() * weight).sum(-1)
            for source, values in zip(sources, reuse.unbind(-1), strict=False):
                pair = (rows.layer, source)
                self.sums[pair] = self.sums.get(pair, torch.zeros(3, dtype=torch.float64)) + values
            bounds = (_bounds(rows).cpu() * weight).sum(-1)
            self.sums[rows.layer, -1] = self.sums.get((rows.layer, -1), torch.zeros(2, dtype=torch.float64)) + bounds

    def tables(self) -> Tables:
        """The table ``layer_sharing``."""
        return {"layer_sharing": pl.DataFrame(self._rows(), schema=LAYER_SHARING.schema, orient="row")}

    def _rows(self) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []
        for layer, source in sorted(pair for pair in self.sums if pair[1] >= 0):
            weight = self.weight[layer]
            own = self.sums[layer, layer][2:]
            sums = torch.cat([self.sums[layer, source], own, self.sums[layer, -1]])
            means = [float(value) / weight if weight > 0 else None for value in sums]
            rows.append((self.sample, layer, source, self.own[layer], self.queries[layer], weight, *means))
        return rows


def _chosen(selected: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Selections [Q, K] as keys [sources, Q, largest k_t], int64, and which are meant; k_t is much smaller than K."""
    most = max(1, *(int(one.sum(-1).max()) for one in selected))
    valid, keys = zip(*(one.to(torch.uint8).topk(most, dim=-1) for one in selected), strict=True)
    return torch.stack(keys), torch.stack(valid).bool()


def _reuse(rows: CloseupRows, keys: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Jaccard, overlap and recall of a layer given other layers' keys, [3, sources, Q], float64; 0 for empty sets."""
    assert rows.selected is not None

    def at(values: torch.Tensor) -> torch.Tensor:
        return values.expand(len(keys), -1, -1).gather(-1, keys)

    common = (at(rows.selected) & valid).sum(-1).double()
    given = (at(rows.eligible) & valid).sum(-1).double()
    recall = (at(rows.p).double() * valid).sum(-1)
    k = rows.k.double()
    return torch.stack([common / (k + given - common).clamp(min=1), common / k.clamp(min=1), recall])


def _bounds(rows: CloseupRows) -> torch.Tensor:
    """Recall of the best and of k_t random keys, [2, Q], float64."""
    k = rows.k
    most = max(int(k.max()), 1)
    best = rows.p.topk(most, dim=-1).values.double()
    kept = torch.arange(most, device=best.device) < k[:, None]
    return torch.stack([(best * kept).sum(-1), k.double() / rows.n.clamp(min=1).double()])


CLOSEUP = Collected(COLLECTED, lambda look: (sharing_collector(),))
