"""What the selection keeps as indexer heads go, one after the other, in an order learned on other samples.

The order is that of the leave-one-out loss on pilot samples. Evaluated on the same samples the loss would look too
small, since the order was chosen for them; evaluated on samples that had no part in it, it is unbiased for this order.
It is a ranking and not a search: of two heads that duplicate each other, both look superfluous until one is gone, and
a search over subsets may do better. The losses along the order are those of really removing all the heads before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.collect import Again, CloseupSample, Maker, Tables
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.closeup.stacked import by_layer
from indexscope.analysis.features.intake import evenly
from indexscope.analysis.indexer_heads.block import head_blocks
from indexscope.analysis.indexer_heads.tables import PRUNING

Order = Mapping[int, NDArray[np.int64]]
PILOT = 0.25
"""Least share of the samples by which the order is chosen."""


def remove_heads(again: Again) -> Tables:
    """What is lost as heads go, on samples that had no part in the choice of their order.

    As many samples as the settings say are judged by, spread evenly, but at most three quarters; the order is chosen by
    all others.

    Tables:
        indexer_pruning: See `pruning_collector`; empty where no layer shows scores of single heads.
    """
    judged, pilot = divided(len(again.samples), again.settings.removal_of(len(again.samples)))
    own = pl.col("sample").is_in([again.samples[place].index for place in pilot])
    order = removal_order(again.looked["indexer_heads"].filter(own))
    if not judged or not order:
        return {"indexer_pruning": PRUNING.empty()}
    samples = [again.samples[place] for place in judged]
    return collect_samples(again.source, samples, [pruning_collector(order)], again.settings.queries, again.attempt)


def divided(samples: int, count: int) -> tuple[list[int], list[int]]:
    """Places of the samples that are judged by and of those that choose.

    >>> divided(8, 16)
    ([0, 2, 3, 4, 6, 7], [1, 5])
    """
    judged = evenly(samples, min(count, samples - math.ceil(samples * PILOT)))
    return judged, sorted(set(range(samples)) - set(judged))


def removal_order(frame: pl.DataFrame) -> dict[int, NDArray[np.int64]]:
    """Heads of each layer, those first without which recall loses least; lower indices first among equals.

    Args:
        frame: The table ``indexer_heads`` of the pilot samples.

    Returns:
        Layer to all its indexer heads. A layer in which no pilot query was in effect is left out.
    """
    loss = (pl.col("recall_with") - pl.col("recall_without")) * pl.col("weight")
    ordered = (
        frame.sort("sample", "layer", "indexer_head")
        .group_by("layer", "indexer_head", maintain_order=True)
        .agg(loss=loss.sum() / pl.col("weight").sum())
        .sort("layer", "loss", "indexer_head")
    )
    return {
        int(str(layer)): own["indexer_head"].to_numpy().astype(np.int64)
        for (layer,), own in ordered.group_by("layer", maintain_order=True)
    }


def pruning_collector(order: Order) -> Maker:
    """Collectors of the recall of selections by the heads that remain.

    Args:
        order: Layer to heads in the order of their removal, all of them; other layers are not looked at.

    Tables:
        indexer_pruning: By sample, layer and number of heads removed, 0 to J - 1: the head removed at that step (null
        at first), queries and weight, recall (dense attention of the head mean on the top k_t of the heads that
        remain) and overlap with S_t, both expected over ties at the k-th score.
    """

    def make(sample: CloseupSample) -> _PruningCollector:
        return _PruningCollector(sample, order)

    return make


class _PruningCollector:
    def __init__(self, sample: CloseupSample, order: Order) -> None:
        self._sample = sample.index
        self._order = order
        self._queries: dict[int, int] = {}
        self._sums: dict[int, NDArray[np.float64]] = {}

    def add(self, layers: Sequence[CloseupRows]) -> None:
        for block in head_blocks([rows for rows in layers if rows.layer in self._order]):
            order = torch.from_numpy(np.stack([self._order[layer] for layer in block.layer.tolist()])).unsqueeze(-1)
            ordered = block.contribution.gather(1, order.to(block.p.device).expand_as(block.contribution))
            kept, recall = block.outcome(block.inclusion(_remaining(ordered)))
            parts = (torch.ones_like(recall), recall, kept)
            sums = torch.stack([part * block.weight.unsqueeze(-1) for part in parts]).cpu().numpy()
            for layer, here in by_layer(block.layer):
                self._sums[layer] = self._sums.get(layer, 0.0) + sums[:, here].sum(axis=1)
                self._queries[layer] = self._queries.get(layer, 0) + here.stop - here.start

    def tables(self) -> Tables:
        rows = []
        for layer, (weight, recall, overlap) in sorted(self._sums.items()):
            heads = [None, *self._order[layer][:-1].tolist()]
            means = ((recall / weight).tolist(), (overlap / weight).tolist())
            for removed, (head, *numbers) in enumerate(zip(heads, weight.tolist(), *means, strict=True)):
                rows.append((self._sample, layer, removed, head, self._queries[layer], *numbers))
        return {"indexer_pruning": pl.DataFrame(rows, schema=PRUNING.schema, orient="row")}


def _remaining(contribution: torch.Tensor) -> torch.Tensor:
    """Scores of the heads that remain after the first m, [B, J, K] for m = 0 .. J - 1."""
    return contribution.flip(1).cumsum(1).flip(1)
