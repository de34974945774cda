"""Claims about the divergence of distributions that are stored in part: closed forms, bounds and precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.output_divergence.pairs import divergences
from indexscope.analysis.output_divergence.predictions import unpacked
from tests.analysis.output_divergence.distributions import Array, normal, stored


def kl(one: Array, other: Array, top: int = 4096) -> tuple[Array, Array]:
    return divergences(unpacked(stored(one, top)), unpacked(stored(other, top)))


def reference(one: Array, other: Array) -> Array:
    """In float64 over the whole vocabulary."""
    return (np.exp(one) * (one - other)).sum(-1)


def drawn(seed: int, queries: int = 5, vocabulary: int = 60, apart: float = 0.5) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    values = random.normal(0, 2, (queries, vocabulary))
    return normal(values), normal(values + random.normal(0, apart, values.shape))


def test_geometric_distributions_have_the_divergence_of_their_closed_form() -> None:
    """ln((1 - a) / (1 - b)) + a / (1 - a) ln(a / b) for parameters a and b."""
    a, b = 0.8, 0.7
    places = np.arange(400)
    one, other = (math.log1p(-rate) + places * math.log(rate) for rate in (a, b))
    expected = math.log((1 - a) / (1 - b)) + a / (1 - a) * math.log(a / b)
    found, merged = kl(one[None], other[None])
    assert found[0] == pytest.approx(expected, rel=2e-3)
    assert merged[0] == 0.0


def test_what_is_not_stored_is_one_outcome() -> None:
    """The two likeliest of four: {a, b, rest} of both models, and {a, rest} where only a is among both's likeliest."""
    one = np.log([[0.5, 0.25, 0.125, 0.125]])
    other = np.log([[0.25, 0.5, 0.125, 0.125]])
    found, merged = kl(one, other, top=2)
    assert found[0] == pytest.approx(0.5 * math.log(2) - 0.25 * math.log(2), abs=1e-3)
    assert merged[0] == pytest.approx(0.25)
    other = np.log([[0.5, 0.125, 0.25, 0.125]])
    found, merged = kl(one, other, top=2)
    assert found[0] == pytest.approx(0.0, abs=1e-6), "0.5 on a and 0.5 on all else in both"
    assert merged[0] == pytest.approx(0.5, abs=1e-3)
    assert reference(one, other)[0] > 0.08


def test_equal_distributions_diverge_by_nothing_at_all() -> None:
    one, _ = drawn(0, vocabulary=3000)
    for top in (4096, 64):
        found, _ = kl(one, one, top)
        assert found.tolist() == [0.0] * 5


def test_where_nothing_is_stored_nothing_is_known() -> None:
    one, other = drawn(1)
    for values in kl(one, other, 0):
        assert np.isnan(values).all()


def test_a_token_that_the_candidate_rules_out_makes_the_divergence_infinite() -> None:
    one = np.log([[0.5, 0.5]])
    with np.errstate(divide="ignore"):
        other = np.log([[1.0, 0.0]])
    assert kl(one, other)[0][0] == np.inf
    assert kl(other, one)[0][0] == pytest.approx(math.log(2), rel=1e-3)


def test_sixteen_bits_cost_less_than_a_thousandth_of_divergences_that_matter() -> None:
    one, other = drawn(2, queries=200, vocabulary=2048, apart=0.1)
    true = reference(one, other)
    assert 4e-3 < true.mean() < 6e-3
    found, _ = kl(one, other)
    assert abs(found.mean() / true.mean() - 1) < 1e-3
    assert np.abs(found - true).max() < 1e-4
    raw = one.astype("<f2").astype(np.float64), other.astype("<f2").astype(np.float64)
    assert np.abs(reference(*raw) - true).max() > 3 * np.abs(found - true).max(), "without summing to one again"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 3), st.integers(1, 59))
def test_merging_outcomes_gives_a_lower_bound_that_rises_with_what_is_stored(seed: int, apart: float, top: int) -> None:
    one, other = drawn(seed, apart=apart)
    fewer, rest = kl(one, other, top)
    more, less_rest = kl(one, other, top + 1)
    tiny = 3e-3 * apart
    assert (fewer >= 0).all()
    assert (fewer <= more + tiny).all()
    assert (more <= reference(one, other) + tiny).all()
    assert (less_rest <= rest + 1e-3).all()
