"""Every pattern type is told right on at least 95 % of planted maps, under noise and at several lengths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from indexscope.analysis.clustering.pattern_types import MIXED, TYPES, classify
from indexscope.analysis.clustering.rows import pattern_rows
from tests.analysis import planted
from tests.analysis.clustering.test_clustering import PLANTED, grid
from tests.analysis.planted import Array

SEEDS = 20
# Shorter ones are told without noise alone (test_chance.py).
LENGTHS = (128, 192)
# The share of attention that noise spreads over all keys alike, and the sd of the log of what every weight is off by.
SPREAD = 0.15
SIGMA = 0.5


def repeating(length: int) -> NDArray[np.int64]:
    """A text of 24 different tokens over and over."""
    return np.arange(length) % 24


def induction(length: int) -> Array:
    """Attention to all keys that follow a copy: no single distance holds much of it."""
    return np.where(planted.follows_copy(repeating(length)), 60.0, 0.05)


def noisy(weights: Array, seed: int) -> Array:
    """Every weight off by a random factor, and a random part of the attention spread over all keys."""
    random = np.random.default_rng(seed)
    length = len(weights)
    causal = np.tri(length) * weights * random.lognormal(0.0, SIGMA, weights.shape)
    shares = causal / causal.sum(axis=1, keepdims=True)
    background = np.tri(length) * random.uniform(0, 1, weights.shape)
    spread = SPREAD * random.uniform(0, 2)
    return (1 - spread) * shares + spread * background / background.sum(axis=1, keepdims=True)


def told(pattern: Callable[[int], Array], length: int, tokens: NDArray[np.int64] | None = None) -> list[str]:
    """Types of noisy maps of a pattern."""
    heads = [lambda size, seed=seed: noisy(pattern(size), seed) for seed in range(SEEDS)]
    types, _ = classify(pattern_rows(planted.maps(heads, length, tokens=tokens)))
    assert len(types) == SEEDS
    return types


def right(name: str, length: int) -> float:
    """Share of noisy maps of a type that are told as that type."""
    pattern, tokens = (induction, repeating(length)) if name == "induction" else (PLANTED[name], None)
    return told(pattern, length, tokens).count(name) / SEEDS


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", [name for name in TYPES if name not in (MIXED, "uniform")])
def test_a_planted_type_is_told_right_under_noise(name: str, length: int) -> None:
    assert right(name, length) >= 0.95


def to_any_block(size: int) -> Callable[[int], Array]:
    """The queries of a block attend to one whole block of keys, any up to their own."""

    def pattern(length: int) -> Array:
        random = np.random.default_rng(1)
        chosen = np.array([random.integers(own + 1) for own in range(-(-length // size))])
        t, s = grid(length)
        return np.where(s // size == chosen[(t // size).astype(int)][:, :1], 50.0, 0.05)

    return pattern


def window(width: int) -> Callable[[int], Array]:
    def pattern(length: int) -> Array:
        t, s = grid(length)
        return np.where(t - s < width, 50.0, 0.05)

    return pattern


@pytest.mark.parametrize(("size", "length"), [(16, 96), (32, 160), (64, 320)])
def test_whole_far_blocks_are_told_as_blocks_at_every_size_that_four_blocks_show(size: int, length: int) -> None:
    assert told(to_any_block(size), length).count("block") / SEEDS >= 0.95


@pytest.mark.parametrize("width", [8, 16, 32])
def test_windows_as_wide_as_a_block_are_no_blocks(width: int) -> None:
    assert told(window(width), 160).count("local") / SEEDS >= 0.95


def test_uniform_attention_is_told_right_under_weaker_noise() -> None:
    """Factors of sd 0.5 take 2 % of the entropy, so uniform stays uniform."""
    assert right("uniform", 160) >= 0.95


def test_a_map_of_two_patterns_alike_is_neither_with_a_margin() -> None:
    """Half sink and half diagonal lies on the border: what decides is less than 0.1 of attention."""
    t, s = grid(160)
    both = np.where(s < 4, 0.12, 0.0) + np.where(t == s, 0.5, 0.0) + 1e-4
    _, margins = classify(pattern_rows(planted.maps([lambda length: both], 160)))
    assert margins[0] < 0.1
