"""No attention that knows of no place is named for one at any length, and pure types are found at every length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from indexscope.analysis.clustering.pattern_types import classify
from indexscope.analysis.clustering.rows import pattern_rows
from indexscope.analysis.features.given import given_tables
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.clustering.test_clustering import distant, grid, previous, sink, slash, vertical
from tests.analysis.clustering.test_clustering import own as diagonal
from tests.analysis.planted import Array

#: How many maps of each length.
MAPS = {24: 16, 32: 16, 48: 16, 64: 16, 128: 4, 256: 2, 512: 1, 2048: 1}
EVERYWHERE = [length for length in MAPS if length <= 256]
PLACELESS = {"uniform", "global", "mixed"}
Head = Callable[[int, np.random.Generator], Array]


def causal(weights: Array) -> Array:
    kept = np.tri(len(weights)) * weights
    return np.asarray(kept / kept.sum(axis=1, keepdims=True))


def types(head: Head, length: int, eligible: Array | None = None, tokens: Array | None = None) -> list[str]:
    maps = np.stack([head(length, np.random.default_rng(seed)) for seed in range(MAPS[length])])
    seen = np.tri(length) if eligible is None else eligible
    maps = maps * seen / (maps * seen).sum(axis=2, keepdims=True)
    weights = torch.from_numpy(maps[None].astype(np.float32))
    ids = None if tokens is None else torch.from_numpy(tokens)[None]
    tables = given_tables(weights, torch.from_numpy(seen > 0), ExtractSettings(), None, ids)
    found, _ = classify(pattern_rows(tables))
    assert len(found) == MAPS[length]
    return found


def gaussian(temperature: float) -> Head:
    return lambda length, random: causal(np.exp(random.normal(0, 1 / temperature, (length, length))))


def dirichlet(concentration: float) -> Head:
    return lambda length, random: causal(random.gamma(concentration, size=(length, length)) + 1e-30)


def content(length: int, random: np.random.Generator) -> Array:
    """Scores of random queries and keys of 64 numbers, with a standard deviation of 2."""
    scores = random.normal(size=(length, 64)) @ random.normal(size=(64, length)) / 4
    return causal(np.exp(scores - scores.max()))


def shuffled(pattern: Callable[[int], Array]) -> Head:
    """Every query's weights on keys at random."""

    def head(length: int, random: np.random.Generator) -> Array:
        maps = causal(pattern(length))
        return np.stack([np.r_[random.permutation(row[: t + 1]), row[t + 1 :]] for t, row in enumerate(maps)])

    return head


def mixed(pattern: Callable[[int], Array], share: float) -> Head:
    """A share of a pattern, the rest random."""
    return lambda length, random: share * causal(pattern(length)) + (1 - share) * gaussian(1.0)(length, random)


def one_key(length: int, random: np.random.Generator) -> Array:
    return np.eye(length)[random.integers(0, np.arange(length) + 1)]


RANDOM: dict[str, Head] = {
    "uniform": lambda length, random: causal(np.ones((length, length))),
    **{f"dirichlet {concentration}": dirichlet(concentration) for concentration in (0.02, 0.2, 1.0)},
    **{f"gaussian scores, temperature {temperature}": gaussian(temperature) for temperature in (0.5, 1.0, 2.0, 4.0)},
    "content": content,
    "shuffled sink": shuffled(sink),
    "shuffled previous token": shuffled(previous),
    "one key": one_key,
}


def window(width: int) -> Callable[[int], Array]:
    def pattern(length: int) -> Array:
        t, s = grid(length)
        return np.where(t - s < width, 1.0, 1e-4)

    return pattern


def blocks(length: int) -> Array:
    t, s = grid(length)
    return np.where(t // 16 == s // 16, 1.0, 1e-4)


#: Type, pattern and the shortest length at which a map can show it: windows in twice their width, blocks in four.
PURE: dict[str, tuple[str, Callable[[int], Array], int]] = {
    "sink": ("sink", sink, 32),
    "previous token": ("previous-token", previous, 32),
    "self": ("self", diagonal, 32),
    "strided": ("slash", slash, 32),
    "vertical": ("vertical", vertical, 32),
    **{f"window of {width}": ("local", window(width), max(32, 2 * width + 1)) for width in (4, 8, 16, 32)},
    "block": ("block", blocks, 64),
    "global": ("global", distant, 64),
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_random_head_is_named_for_no_place_at_any_length(name: str) -> None:
    for length in EVERYWHERE:
        assert set(types(RANDOM[name], length)) <= PLACELESS, length


@pytest.mark.parametrize("name", PURE)
def test_a_pure_type_is_found_at_every_length(name: str) -> None:
    kind, pattern, shortest = PURE[name]
    for length in EVERYWHERE:
        if length >= shortest:
            found = types(lambda size, random: causal(pattern(size)), length)
            assert found.count(kind) >= 0.95 * len(found), length


def test_a_long_context_changes_neither() -> None:
    assert set(types(RANDOM["one key"], 2048)) <= PLACELESS
    assert types(lambda size, random: causal(window(8)(size)), 2048) == ["local"]


@pytest.mark.parametrize("name", [name for name, (kind, _, _) in PURE.items() if kind in ("sink", "self", "local")])
def test_most_of_the_attention_makes_a_type_and_a_third_of_it_none(name: str) -> None:
    """The rest is random attention; a window of 32 keys takes more than 64 to be told from it."""
    kind, pattern, shortest = PURE[name]
    for length in (64, 128, 256, 512):
        if length > 2 * shortest or length > shortest == 32:
            for share, is_named in ((0.75, True), (0.33, False)):
                assert (kind in types(mixed(pattern, share), length)) == is_named, (length, share)


@pytest.mark.parametrize("width", [32, 48, 128])
def test_random_attention_in_a_sliding_window_is_not_local(width: int) -> None:
    for length in (64, 256, 512):
        t, s = grid(length)
        eligible = np.tri(length) * (t - s < width)
        for name in ("uniform", "dirichlet 0.02", "dirichlet 0.2", "gaussian scores, temperature 1.0"):
            assert set(types(RANDOM[name], length, eligible)) <= PLACELESS, (length, name)


def test_a_text_of_few_tokens_makes_no_random_head_an_induction_head() -> None:
    """Of two tokens in turn, half of the keys follow a copy of the query."""
    for length in (32, 64, 256):
        turns = np.random.default_rng(0).integers(0, 2, length)
        for name in RANDOM:
            assert set(types(RANDOM[name], length, tokens=turns)) <= PLACELESS, (length, name)
