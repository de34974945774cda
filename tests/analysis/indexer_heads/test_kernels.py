"""Claims about the passes over single heads' scores, against what numpy says query by query."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from indexscope.analysis.features.sketch import BINS, KEPT_BITS
from indexscope.analysis.indexer_heads.kernels import MOMENTS, count_scores, place_selections


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_counted_by_group_and_leading_bits(seed: int) -> None:
    """With equal scores, zeros of one head alone, a group without keys and negative scores."""
    random = np.random.default_rng(seed)
    scores = random.integers(-4, 5, (5, 3, 17)).astype(np.float32) * np.float32(0.37)
    scores[:, 1] = 0.0
    group = random.integers(0, 3, (5, 17)).astype(np.int8)
    if seed == 0:
        group[group == 0] = 2
    weight = random.integers(1, 9, 5).astype(np.float64)
    moments = np.zeros((3, 2, MOMENTS))
    moments[..., 3], moments[..., 4] = np.inf, -np.inf
    codes, counts = np.empty(scores.size, np.int64), np.empty(scores.size)
    filled = count_scores(scores, scores.view(np.int32), group, weight, moments, codes, counts)
    expected: dict[int, float] = defaultdict(float)
    for head in range(3):
        for place in range(2):
            query, key = np.nonzero(group == place)
            values, times = scores[query, head, key].astype(np.float64), weight[query]
            sums = [times.sum(), times @ values, times @ values**2, times @ (values == 0)]
            assert moments[head, place, [0, 1, 2, 5]] == pytest.approx(sums)
            assert moments[head, place, 3] == values.min(initial=np.inf)
            assert moments[head, place, 4] == values.max(initial=-np.inf)
            bits = scores[query, head, key].view(np.uint32) >> (32 - KEPT_BITS)
            for code, count in zip(bits.tolist(), times.tolist(), strict=True):
                expected[(head * 2 + place) * BINS + code] += count
    assert codes[:filled].tolist() == sorted(expected)
    assert dict(zip(codes[:filled].tolist(), counts[:filled].tolist(), strict=True)) == expected


@pytest.mark.parametrize("seed", range(3))
def test_selections_fall_into_the_bins_of_their_distance_and_their_tenth(seed: int) -> None:
    random = np.random.default_rng(seed)
    query = np.sort(random.choice(np.arange(5, 40), 4, replace=False)).astype(np.int64)
    up = (np.arange(40) <= query[:, None]) & (random.random((4, 40)) > 0.2)
    if seed == 0:
        up[0] = False
    own = random.random((4, 3, 40)) * up[:, None]
    weight, chance = random.random(4) + 0.5, random.random(4)
    distance, relative = np.zeros((4, 7)), np.zeros((4, 10))
    place_selections(own, up, query, weight, chance, distance, relative)
    expected = np.zeros((4, 7)), np.zeros((4, 10))
    for q, t in enumerate(query.tolist()):
        keys = np.flatnonzero(up[q]).tolist()
        for rank, s in enumerate(keys):
            row = np.append(own[q, :, s], chance[q]) * weight[q]
            expected[0][:, 0 if s == t else int(np.log2(t - s)) + 1] += row
            expected[1][:, 10 * rank // len(keys)] += row
    assert distance == pytest.approx(expected[0])
    assert relative == pytest.approx(expected[1])
