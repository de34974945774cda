"""Close-up tables of heads with known roles, of several samples of different lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import torch

from indexscope.analysis.indexer_heads.collect import head_collector, pruning_collector, removal_order
from tests.analysis.closeup.head_rows import closeup_rows, collected, random_rows

PREVIOUS, SINK, TWIN, SILENT, INDUCTION, FAR, AGAINST = range(7)
WEIGHTS = (1.0, 1.0, 0.5, 1.0, 0.3, 1.0, -0.5)


def join_tables(parts: Sequence[Mapping[str, pl.DataFrame]]) -> dict[str, pl.DataFrame]:
    """Tables of several samples below each other."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: pl.concat([part[name] for part in parts if name in part]) for name in names}


def roles(samples: int = 9, layers: int = 2) -> dict[str, pl.DataFrame]:
    """All tables: head 0 scores the previous token, 1 the sinks, 2 duplicates 0 at half the weight, 3 scores nothing,
    4 induction, 5 the oldest quarter without the sinks, and 6 votes against the previous token, on which half of the
    attention lies."""
    random = np.random.default_rng(11)
    rows, ids = [], []
    for _ in range(samples):
        length = int(random.integers(90, 160))
        tokens = torch.from_numpy(random.integers(0, 30, length))
        query = (length - 30, length - 11, length - 1)
        relu, p = np.zeros((3, 7, length)), np.zeros((3, length))
        for q, t in enumerate(query):
            relu[q, [PREVIOUS, TWIN, AGAINST], t - 1] = 2.0
            p[q, : t + 1], p[q, t - 1] = 0.5 / t, 0.5
            relu[q, SINK, :4] = random.random(4) + 0.5
            relu[q, INDUCTION, [s for s in range(1, t + 1) if tokens[s - 1] == tokens[t]]] = 1.0
            relu[q, FAR, 4 : t // 4] = random.random(t // 4 - 4)
        own = [closeup_rows(relu, query, 8, np.tile(WEIGHTS, (3, 1)), p, layer) for layer in range(layers)]
        rows.append(own)
        ids.append(tokens)
    return _tables(rows, ids)


def noisy(samples: int = 9, seed: int = 0, heads: int = 4) -> dict[str, pl.DataFrame]:
    """All tables of random heads whose scores have many zeros, in two layers."""
    rows = [
        [random_rows(seed + 10 * i + layer, heads=heads, keys=40 + i, layer=layer) for layer in range(2)]
        for i in range(samples)
    ]
    return _tables(rows, [torch.zeros(60, dtype=torch.int64)] * samples)


def _tables(rows: list, ids: list[torch.Tensor]) -> dict[str, pl.DataFrame]:  # type: ignore[type-arg]
    found = [
        collected(head_collector(), [own], tokens, i) for i, (own, tokens) in enumerate(zip(rows, ids, strict=True))
    ]
    order = removal_order(join_tables(found[::4])["indexer_heads"])
    pruned = [
        collected(pruning_collector(order), [own], tokens, i)
        for i, (own, tokens) in enumerate(zip(rows, ids, strict=True))
        if i % 4
    ]
    return join_tables([*found, *pruned])
