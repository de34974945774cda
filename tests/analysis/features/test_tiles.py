"""Attention on whole aligned blocks: closed forms, a float64 reference, and maps that know nothing of blocks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.features.layer import LayerFeatures
from indexscope.analysis.features.sampling import measured_parts
from indexscope.analysis.features.tiles import count_queries
from tests.analysis import planted
from tests.analysis.features.drawn import SETTINGS, features_of, whole


def layer_of(p: np.ndarray, compiled: bool = True, step: int | None = None, every: int = 1) -> LayerFeatures:
    """Features of causal maps p [heads, n, n], which one-hot queries read off the keys."""
    heads, n = p.shape[:2]
    logits = torch.from_numpy(np.log(np.maximum(p, 1e-30))).float()
    chunk = replace(
        whole(n, heads=heads, groups=heads, k=None),
        query=torch.eye(n).expand(1, heads, n, n), key=logits.transpose(1, 2)[None], scaling=1.0,
    )  # fmt: skip
    if every == 1:
        return features_of(chunk, compiled, step)[0]
    layer = LayerFeatures(SETTINGS, 1, heads, n, 6, torch.device("cpu"), compiled=compiled)
    for part in measured_parts(chunk, n, every):
        layer.add(part, torch.zeros((1, n), dtype=torch.int64))
    return layer


def blocks_of(p: np.ndarray, **more: object) -> tuple[list[float], list[float]]:
    found = layer_of(p, **more).shape.features(sink_keys=4)  # type: ignore[arg-type]
    return found["block_mass"][0].tolist(), found["block_size"][0].tolist()


def normalised(weights: np.ndarray) -> np.ndarray:
    causal = np.tril(weights)
    return causal / causal.sum(axis=-1, keepdims=True)


def far_block(n: int, size: int) -> np.ndarray:
    """The whole block two before the query's own; the first two attend to the first token."""
    t, s = np.indices((n, n))
    return normalised(np.where(t < 2 * size, s == 0, s // size == t // size - 2) * 1.0)


def within(n: int, size: int) -> np.ndarray:
    t, s = np.indices((n, n))
    return normalised((t // size == s // size) * 1.0)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_whole_blocks_hold_all_the_attention_at_their_own_size(size: int, compiled: bool) -> None:
    mass, found = blocks_of(far_block(8 * size, size)[None], compiled=compiled)
    assert found == [float(size)]
    # Of eight blocks of queries the first two are on one token, the third is on a block whose first half is all that
    # the first shifted block has, and the others are on whole blocks: 0, 0, 1/2, 1, ... Before t = 16 none counts.
    places = size // 16
    assert mass[0] == pytest.approx((5.5 / 7 + (places - 1) * 5.5 / 8) / places, abs=1e-5)


def test_attention_within_blocks_is_even_up_to_the_query_s_own_part() -> None:
    """With f of four parts complete, the share f / (f + r) is even; half the block on, the shifted one gains a part."""
    size = 64
    even = []
    for m in range(4, size + 1, 4):
        aligned = m // 16 * 16 / m
        shifted = 16 / m if 48 <= m < 64 else (32 / m if m == 64 else 0.0)
        # In the first of 16 blocks both tilings see the same parts; the queries before t = 16 do not count.
        even.append((aligned - shifted) * (1 if m <= 16 else 15 / 16))
    mass, found = blocks_of(within(16 * size, size)[None])
    assert found == [float(size)]
    assert mass[0] == pytest.approx(np.mean(even), abs=1e-5)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("width", [1, 5, 16, 32, 64])
def test_what_follows_the_query_shows_no_blocks(width: int, compiled: bool) -> None:
    """A window, a diagonal and a decay: the same at every place of a block, so that the two tilings are alike."""
    t, s = np.indices((512, 512))
    maps = [t - s < width, (t - s == width) | (t < width), np.exp((s - t) / width)]
    mass, _ = blocks_of(np.stack([normalised(one * 1.0) for one in maps]), compiled=compiled)
    assert max(mass) < 0.04


@pytest.mark.parametrize("compiled", [True, False])
def test_places_of_a_block_count_alike_however_many_queries_they_have(compiled: bool) -> None:
    """Of 128 queries those at the second place of blocks of 32, from t = 80 on, attend to keys 32 to 63 alone.

    They are 8 of the 16 counted ones there, and none of the 12 at the first place: (8 / 16 + 0) / 2, and not 8 of 28.
    For blocks of 16 their contrast is 1 - 1 / 2, and there is one place: 8 / 28 / 2.
    """
    t, s = np.indices((128, 128))
    looking = (t >= 80) & (t % 32 >= 16)
    mass, size = blocks_of(normalised(np.where(looking, s // 32 == 1, s == 0) * 1.0)[None], compiled=compiled)
    assert (mass, size) == (pytest.approx([0.25], abs=1e-6), [32.0])


@pytest.mark.parametrize(("size", "least"), [(16, 64), (32, 112), (64, 208)])
def test_a_size_is_judged_from_the_length_at_which_each_place_has_twelve_queries(size: int, least: int) -> None:
    """The third or fourth block is not whole: as the documentation has it."""
    for n in (least - 1, least):
        counted = count_queries(np.ones((1, n), dtype=np.int64), 0)[0]
        places = counted[size // 16 - 1 : size // 8 - 1]
        assert ((places >= 12).all()) == (n == least)


def test_columns_and_uniform_attention_show_no_blocks() -> None:
    t, s = np.indices((256, 256))
    maps = [np.ones((256, 256)), s < 4, np.isin(s, [20, 70, 71, 130]) | (t < 131)]
    mass, _ = blocks_of(np.stack([normalised(one * 1.0) for one in maps]))
    assert max(mass) < 0.04


def test_blocks_that_do_not_start_at_a_multiple_of_their_size_are_not_seen() -> None:
    t, s = np.indices((256, 256))
    assert blocks_of(normalised(((t + 8) // 16 == (s + 8) // 16) * 1.0)[None])[0] == [0.0]


@pytest.mark.parametrize("n", [63, 64])
def test_fewer_than_four_blocks_tell_nothing(n: int) -> None:
    mass, size = blocks_of(within(n, 16)[None])
    assert math.isnan(mass[0]) == math.isnan(size[0]) == (n < 64)


@pytest.mark.parametrize(("every", "sizes"), [(3, {32.0}), (4, {16.0, math.nan})])
def test_of_sampled_queries_only_sizes_whose_places_are_all_seen_are_judged(every: int, sizes: set[float]) -> None:
    """Every fourth block of 16 queries stands at the same place of every block of 32: nothing is said of that size."""
    n = 512
    t, s = np.indices((n, n))
    mass, found = blocks_of(np.stack([within(n, 32), normalised((t - s < 32) * 1.0)]), every=every)
    assert found[0] in sizes
    assert mass[1] < 0.04


@settings(max_examples=25, deadline=None)
@given(st.integers(20, 150), st.integers(1, 150), st.integers(0, 10**6))
def test_kernels_and_torch_equal_the_float64_reference(n: int, step: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    size = int(random.choice([8, 16, 32]))
    weights = random.random((2, n, n)) ** 4 + 3 * (np.indices((n, n))[1] // size % 3 == 0) + 1e-6
    p = normalised(weights)
    expected = [planted.blocks(one) for one in p]
    for compiled in (True, False):
        mass, found = blocks_of(p, compiled=compiled, step=step)
        for head, (own, of_size) in enumerate(expected):
            if own is None:
                assert math.isnan(mass[head])
                continue
            assert mass[head] == pytest.approx(own, abs=1e-5)
            if of_size is not None and own > 1e-4:
                assert found[head] == of_size


def test_a_padded_or_windowed_sequence_is_tiled_by_positions() -> None:
    """Parts that are not all eligible do not count, and the kernels agree with torch about which those are."""
    chunk = whole(200, batch=2, left=21, window=70)
    compiled, plain = (features_of(chunk, way, 33)[0] for way in (True, False))
    torch.testing.assert_close(compiled.shape.contrast, plain.shape.contrast, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(compiled.shape.tiled, plain.shape.tiled)
    assert compiled.shape.tiled[1].sum() < compiled.shape.tiled[0].sum()
