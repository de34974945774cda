"""Every feature written again, one row at a time in float64, straight from its definition in docs/metrics.md."""

from __future__ import annotations

import math

import numpy as np


def attention_row(p: np.ndarray, t: int, tau: float, window: int, sinks: int, top_k: int, ids: list[int]) -> dict:
    """Features of one head's dense attention p over keys 0..t."""
    assert len(p) == t + 1
    entropy = -sum(x * math.log(x) for x in p if x > 0)
    largest = sorted(p, reverse=True)
    held, keys = 0.0, 0
    while held < 0.95:
        held += largest[keys]
        keys += 1
    return {
        "attention_entropy": entropy,
        "normalized_entropy": entropy / math.log(t + 1) if t else math.nan,
        "effective_keys": math.exp(entropy),
        "participation": 1 / sum(x * x for x in p),
        "sparsity_ratio": sum(x < tau for x in p) / (t + 1),
        "max_weight": largest[0],
        "top_5_mass": sum(largest[:5]),
        "top_10_mass": sum(largest[:10]),
        "top_20_mass": sum(largest[:20]),
        "top_64_mass": sum(largest[:64]),
        "top_k_mass": sum(largest[:top_k]),
        "keys_for_95": keys / (t + 1),
        "local_mass": sum(p[s] for s in range(t + 1) if t - s < window),
        "sink_mass": sum(p[:sinks]),
        "self_mass": p[t],
        "previous_mass": p[t - 1] if t else 0.0,
        "mean_distance": sum(p[s] * (t - s) for s in range(t + 1)),
        "induction_mass": sum(p[s] for s in range(1, t + 1) if ids[s - 1] == ids[t]),
    }


def uniform_row(eligible: list[int], t: int, window: int, sinks: int, ids: list[int]) -> dict:
    """What attention that is the same on all eligible keys of query t would have of the features of locality."""
    n = len(eligible)
    return {
        "uniform_key": 1 / n,
        "uniform_local": sum(abs(t - s) < window for s in eligible) / n,
        "uniform_sink": sum(s < sinks for s in eligible) / n,
        "uniform_induction": sum(0 < s <= t and ids[s - 1] == ids[t] for s in eligible) / n,
        "uniform_distance": sum(abs(t - s) for s in eligible) / n,
    }


def selection_row(mean: np.ndarray, scores: np.ndarray, selected: set[int]) -> dict:
    """Features of one query in effect: head-mean dense attention, index scores and selection over keys 0..t."""
    n, k = len(mean), len(selected)
    oracle = set(np.argsort(-mean, kind="stable")[:k].tolist())
    chosen = sorted(selected)
    rest = [s for s in range(n) if s not in selected]
    kth, rival = min(scores[chosen]), max(scores[rest])
    softmax = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    return {
        "selection_recall": mean[chosen].sum(),
        "oracle_recall": mean[sorted(oracle)].sum(),
        "random_recall": k / n,
        "oracle_overlap": len(oracle & selected) / k,
        "top_key_kept": float(mean[chosen].max() == mean.max()),
        "score_gap": (scores[chosen].mean() - scores[rest].mean()) / scores.std(),
        "score_margin": (kth - rival) / scores.std(),
        "tie_share": float((scores[chosen] == kth).sum()) / k if kth == rival else 0.0,
        "indexer_kl": float((mean * np.log(mean / softmax)).sum()),
        "zero_share": float((scores == 0).sum()) / n,
    }
