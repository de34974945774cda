"""Rows with indexer heads of our own making, and what is to be said of them, slowly and in float64."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.collect import CloseupSample, Maker, Tables
from indexscope.analysis.closeup.rows import CloseupRows

Array = NDArray[np.float64]


def closeup_rows(
    relu: Array,
    query: Sequence[int],
    k: int,
    weights: Array | None = None,
    p: Array | None = None,
    layer: int = 0,
    stands_for: Sequence[float] | None = None,
) -> CloseupRows:
    """Rows of queries whose last key is the last query: relu [Q, J, K], weights [Q, J], attention p [Q, K]."""
    places = torch.tensor(list(query))
    keys = relu.shape[2]
    eligible = torch.arange(keys) <= places[:, None]
    head_scores = torch.from_numpy(relu).float()
    w = None if weights is None else torch.from_numpy(weights).float()
    scores = (head_scores if w is None else head_scores * w[..., None]).sum(1)
    scores = scores.masked_fill(~eligible, -torch.inf)
    selected = torch.zeros_like(eligible).scatter_(1, scores.topk(min(k, keys), dim=1).indices, True) & eligible
    attention = eligible / eligible.sum(-1, keepdim=True) if p is None else torch.from_numpy(p).float()
    return CloseupRows(
        layer=layer,
        query=places,
        weight=torch.tensor(list(stands_for or [1.0] * len(places)), dtype=torch.float64),
        n=eligible.sum(-1),
        p=attention,
        head_p=attention[None],
        eligible=eligible,
        selected=selected,
        scores=scores,
        head_scores=head_scores,
        head_weights=w,
        selects=True,
        scored=True,
    )


def collected(make: Maker, chunks: Sequence[Sequence[CloseupRows]], ids: torch.Tensor, sample: int = 0) -> Tables:
    """The tables of one sample."""
    collector = make(CloseupSample(sample, f"s{sample}", ids))
    for layers in chunks:
        collector.add(layers)
    return collector.tables()


def random_rows(
    seed: int, queries: int = 3, heads: int = 4, keys: int = 40, k: int = 6, layer: int = 0, sparse: float = 0.6
) -> CloseupRows:
    """Random rows with many exact zeros, weights of both signs and uneven stand-ins."""
    random = np.random.default_rng(seed)
    early = random.choice(np.arange(keys // 3, keys - 1), queries - 1, replace=False)
    query = [*np.sort(early).tolist(), keys - 1]
    relu = random.exponential(1.0, (queries, heads, keys)) * (random.random((queries, heads, keys)) > sparse)
    p = random.dirichlet(np.full(keys, 0.3), queries) * (np.arange(keys) <= np.array(query)[:, None])
    p /= p.sum(1, keepdims=True)
    stands_for = random.integers(1, 9, queries).astype(float).tolist()
    return closeup_rows(relu, query, k, random.normal(0.5, 1.0, (queries, heads)), p, layer, stands_for)


def chances(scores: Sequence[float], k: int) -> list[float]:
    """Probability of each key to be among the k best, ties at the k-th broken at random: by going down the ranking."""
    found = [0.0] * len(scores)
    left = k
    for value in sorted(set(scores), reverse=True):
        tied = [place for place, own in enumerate(scores) if own == value]
        for place in tied:
            found[place] = float(min(Fraction(1), Fraction(left, len(tied))))
        left -= min(left, len(tied))
        if not left:
            break
    return found


def reference(rows: CloseupRows, ids: Sequence[int]) -> list[dict[str, float]]:
    """The row of every head in ``indexer_heads``, from the definitions, one query and key at a time."""
    assert rows.head_scores is not None and rows.selected is not None
    heads = rows.head_scores.shape[1]
    sums: list[dict[str, list[tuple[float, float]]]] = [{} for _ in range(heads)]
    for q, t in enumerate(rows.query.tolist()):
        n = t + 1
        r = rows.head_scores[q, :, :n].double().numpy()
        w = np.ones(heads) if rows.head_weights is None else rows.head_weights[q].double().numpy()
        p = rows.p[q, :n].double().numpy()
        chosen = rows.selected[q, :n].numpy()
        k, g = int(chosen.sum()), float(rows.weight[q])
        if k == n:
            continue
        c = [[float(w[j] * r[j, s]) for s in range(n)] for j in range(heads)]
        joint = [sum(c[i][s] for i in range(heads)) for s in range(n)]
        whole = sum(abs(c[i][s]) for i in range(heads) for s in range(n) if chosen[s])
        for j in range(heads):
            own = chances(c[j], k)
            every = chances(joint, k)
            # In float64 the order of additions could part keys that tie at zero; ties elsewhere have probability 0.
            without = chances([sum(c[i][s] for i in range(heads) if i != j) for s in range(n)], k)
            value = {
                "active_share": sum(r[j, s] > 0 for s in range(n)) / n,
                "positive_share": float(w[j] > 0),
                "negative_share": float(w[j] < 0),
                "own_overlap": sum(own[s] for s in range(n) if chosen[s]) / k,
                "random_overlap": k / n,
                "own_recall": sum(own[s] * p[s] for s in range(n)),
                "random_recall": sum(p) * k / n,
                "kept": sum(every[s] for s in range(n) if chosen[s]) / k,
                "kept_without": sum(without[s] for s in range(n) if chosen[s]) / k,
                "recall": sum(p[s] for s in range(n) if chosen[s]),
                "recall_with": sum(every[s] * p[s] for s in range(n)),
                "recall_without": sum(without[s] * p[s] for s in range(n)),
            }
            if whole:
                value["contribution"] = sum(abs(c[j][s]) for s in range(n) if chosen[s]) / whole
            for prefix, share in (
                ("", [max(0.0, c[j][s]) for s in range(n)]),
                ("against_", [max(0.0, -c[j][s]) for s in range(n)]),
            ):
                if sum(share):
                    value |= _places(prefix, share, t, ids)
                    value |= _places(f"{prefix}uniform_", [1.0] * n, t, ids)
            for name, number in value.items():
                sums[j].setdefault(name, []).append((number, g))
    return [
        {name: sum(v * g for v, g in pairs) / sum(g for _, g in pairs) for name, pairs in own.items()} for own in sums
    ]


def _places(prefix: str, share: list[float], t: int, ids: Sequence[int]) -> dict[str, float]:
    at = [own / sum(share) for own in share]
    return {
        f"{prefix}mean_distance": sum(at[s] * (t - s) for s in range(t + 1)),
        f"{prefix}local": sum(at[s] for s in range(t + 1) if t - s < 32),
        f"{prefix}sink": sum(at[:4]),
        f"{prefix}self": at[t],
        f"{prefix}previous": at[t - 1],
        f"{prefix}induction": sum(at[s] for s in range(1, t + 1) if ids[s - 1] == ids[t]),
    }


def only(frame: pl.DataFrame, **where: int | str) -> dict[str, float]:
    """The one row with these values."""
    rows = frame.filter(*(pl.col(name) == value for name, value in where.items()))
    assert rows.height == 1, rows
    return rows.row(0, named=True)
