"""How much of a selection the query before it made already: planted selections, and no dependence on chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.cache import KeyCaches
from indexscope.analysis.features.metrics.reuse import HITS
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.conftest import tiny_dsa
from tests.analysis.features.drawn import features_of, part, whole
from tests.analysis.samples import samples

N = 40
Mask = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("step", [1, 7, 16, N])
@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (lambda t, s: s < 4, 1.0),  # the same keys
        (lambda t, s: t - s < 4, 0.75),  # a window: all but the newest
        (lambda t, s: (t - s) % 2 == 0, 0.0),  # every other key, in turn
    ],
)
def test_planted_selections_are_reused_as_planted(compiled: bool, step: int, mask: Mask, expected: float) -> None:
    t, s = torch.arange(N)[:, None], torch.arange(N)[None, :]
    chunk = whole(N)
    layer, _ = features_of(replace(chunk, selected=mask(t, s)[None, None] & chunk.eligible), compiled, step)
    # From 16 on every query leaves keys out, and the one before it does too.
    np.testing.assert_allclose(layer.per_query.means()["selection_reuse"][0, 4:], expected)
    counts = layer.per_query.counts[layer.per_query.names.index("selection_reuse")]
    assert counts[0, 4:].tolist() == [16, 9]


def by_hand(selected: torch.Tensor) -> np.ndarray:
    """Hits of true caches that evict one key at a time, [3, queries]: the last selection, 2 k_t and 4 k_t keys."""
    queries = selected.shape[-2]
    hits = np.full((3, queries), np.nan)
    stack: list[int] = []
    before: set[int] | None = None
    for t in range(queries):
        own = [int(s) for s in torch.nonzero(selected[0, 0, t]).flatten()]
        if own:
            if before is not None:
                hits[0, t] = len(before & set(own)) / len(own)
            for place, times in enumerate((2, 4), 1):
                hits[place, t] = len(set(stack[: times * len(own)]) & set(own)) / len(own)
        for key in own:
            stack = [key, *(other for other in stack if other != key)]
        before = set(own)
    return hits


@pytest.mark.parametrize("step", [1, 7, N])
@pytest.mark.parametrize("k", [1, 3, 6, 13])
def test_hits_are_those_of_caches_kept_by_hand(k: int, step: int) -> None:
    chunk, caches = whole(N, seed=k, k=k), KeyCaches()
    parts = [caches.followed(part(chunk, first, min(first + step, N))) for first in range(0, N, step)]
    found = torch.cat([one.hits for one in parts], -1)
    np.testing.assert_allclose(found[0], by_hand(chunk.selected), atol=1e-6)


@pytest.mark.parametrize(("period", "twice", "fourfold"), [(2, 1.0, 1.0), (4, 0.0, 1.0), (5, 0.0, 0.0)])
@pytest.mark.parametrize("compiled", [True, False])
def test_a_working_set_that_comes_back_hits_where_it_fits(
    compiled: bool, period: int, twice: float, fourfold: float
) -> None:
    """Queries go round `period` sets of 2 keys each: a cache of c keys holds all or nothing of them."""
    t, s = torch.arange(N)[:, None], torch.arange(N)[None, :]
    chunk = whole(N)
    layer, _ = features_of(replace(chunk, selected=(s // 2 == t % period)[None, None] & chunk.eligible), compiled, 7)
    means = layer.per_query.means()
    np.testing.assert_allclose(means["selection_reuse"][0, 4:], 0.0)
    np.testing.assert_allclose(means["cache_hits_2k"][0, 4:], twice)
    np.testing.assert_allclose(means["cache_hits_4k"][0, 4:], fourfold)


@given(st.integers(1, 9), st.integers(0, 50), st.integers(1, N))
def test_a_larger_cache_never_hits_less_and_the_last_selection_is_a_cache_of_k(k: int, seed: int, step: int) -> None:
    chunk, caches = whole(N, seed=seed, k=k), KeyCaches()
    parts = [caches.followed(part(chunk, first, min(first + step, N))) for first in range(0, N, step)]
    last, twice, fourfold = torch.cat([one.hits for one in parts], -1)[0].nan_to_num(0)
    assert bool((last <= twice + 1e-6).all()) and bool((twice <= fourfold + 1e-6).all())


def test_a_cache_that_drops_its_oldest_keys_changes_nothing() -> None:
    chunk, caches = whole(N, window=9), KeyCaches()
    found = []
    for first in range(0, N, 5):
        own = part(chunk, first, first + 5)
        found.append(caches.followed(replace(own, selected=own.selected[..., max(0, first - 8) :])).hits)
    torch.testing.assert_close(torch.cat(found, -1), KeyCaches().followed(chunk).hits, equal_nan=True)


def test_what_was_not_seen_is_not_told() -> None:
    chunk = whole(N)
    for caches in (KeyCaches(), KeyCaches()):
        found = caches.followed(part(chunk, 10, 20)).hits
        assert found[0].isnan().tolist() == [[True] + [False] * 9, [True] * 10, [True] * 10]
    caches.followed(part(chunk, 0, 5))
    assert caches.followed(part(chunk, 5, 20)).hits[0, 1].isnan().sum() == 0
    assert caches.followed(part(chunk, 30, 40)).hits[0, :, 0].isnan().all()


@pytest.mark.parametrize("every", [1, 3])
def test_reuse_does_not_depend_on_the_chunk_nor_on_measuring_few_queries(every: int) -> None:
    tables = [
        extract_samples(tiny_dsa(), samples(150), ExtractSettings(chunk=chunk, query_every=every))["indexer"]
        for chunk in (16, 40, 150)
    ]
    keys = ["sample", "layer", "bucket"]
    first, *others = (table.sort(keys).filter(pl.col("queries_in_effect") > 0) for table in tables)
    for name in HITS:
        assert first[name].null_count() == 0
        for other in others:
            np.testing.assert_allclose(other[name], first[name], atol=5e-3)
