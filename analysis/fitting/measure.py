"""How good a fitted indexer is on text that it was not fitted to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from indexscope.analysis.features.rows import sort_keys
from indexscope.analysis.fitting.loss import divergence
from indexscope.analysis.fitting.selector import top

#: Sums over queries in effect: attention on the selection, on the best choice, on a random one; and how many queries.
RECALLS = ("selection", "oracle", "random", "queries")


@dataclass
class Sums:
    """Sums over queries of one sample, by layer; of recall also by topk.

    Attributes:
        recalls: By (layer, topk), in the order of `RECALLS`.
        kl: By layer: divergence over E_t in nats, and queries.
    """

    recalls: dict[tuple[int, int], list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0] * 4))
    kl: dict[int, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))

    def add(
        self, layer: int, mean: torch.Tensor, scores: torch.Tensor, eligible: torch.Tensor, topk: Sequence[int]
    ) -> None:
        """Take in queries of a layer.

        Recall is as `indexscope.analysis.features.metrics.recall` defines it: over queries with more keys than topk.

        Args:
            layer: Which.
            mean: Dense attention of the head mean, [batch, queries, keys].
            scores: -inf outside E_t, the same shape.
            eligible: E_t, [batch or 1, queries, keys].
            topk: Numbers of keys.
        """
        eligible = eligible.expand(mean.shape)
        n = eligible.sum(-1)
        known = n > 0
        self._more(self.kl[layer], [float(divergence(mean, scores, eligible)[known].double().sum()), int(known.sum())])
        most = min(max(topk), mean.shape[-1])
        best = sort_keys(mean).flip(-1)[..., :most].double().cumsum(-1)
        for k in topk:
            effect = n > k
            count = int(effect.sum())
            if count:
                selected = (mean * top(scores, k)).sum(-1)[effect].double().sum()
                random = (k / n[effect].double()).sum()
                sums = [float(selected), float(best[..., k - 1][effect].sum()), float(random), count]
                self._more(self.recalls[layer, k], sums)

    @staticmethod
    def _more(sums: list[float], found: Sequence[float]) -> None:
        sums[:] = [one + more for one, more in zip(sums, found, strict=True)]
