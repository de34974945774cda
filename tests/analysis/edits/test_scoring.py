"""Index scores of less precise queries and keys, beside roundings written from the formats' definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from indexscope.analysis.edits.apply import apply_edit
from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.edits.scoring import ROUNDED, as_fp4, as_fp8, as_int8
from tests.analysis.capture.tiny_families import FAMILIES, LENGTH, record, tokens

VECTORS = hnp.arrays(np.float32, (3, 64), elements=st.integers(-200_000, 200_000).map(lambda n: n / 4096))


def nearest(value: float, values: list[float]) -> float:
    """The nearest of ascending magnitudes; at the same distance the one at an even place, whose last bit is zero."""
    place = min(range(len(values)), key=lambda i: (abs(values[i] - abs(value)), i % 2))
    return math.copysign(values[place], value)


E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
E4M3 = sorted(
    {m / 8 * 2.0**-6 for m in range(8)} | {(1 + m / 8) * 2.0**e for e in range(-6, 9) for m in range(8)} - {480.0}
)


@given(VECTORS)
def test_fp4_is_the_nearest_e2m1_of_a_block_of_32_with_a_power_of_two(vectors: np.ndarray) -> None:
    found = as_fp4(torch.from_numpy(vectors)).numpy()
    for row, got in zip(vectors.reshape(-1, 32), found.reshape(-1, 32), strict=True):
        largest = float(np.abs(row).max()) or 1.0
        scale = 2.0 ** (math.floor(math.log2(largest)) - 2)
        assert got.tolist() == [nearest(float(value) / scale, E2M1) * scale for value in row]


@given(VECTORS)
def test_fp8_is_the_nearest_e4m3_with_one_scale_a_vector(vectors: np.ndarray) -> None:
    found = as_fp8(torch.from_numpy(vectors)).numpy()
    for row, got in zip(vectors, found, strict=True):
        step = np.float32(np.abs(row).max() or 1.0) / np.float32(448)
        wanted = [nearest(float(value / step), E4M3) * float(step) for value in row]
        assert np.allclose(got, wanted, rtol=1e-6, atol=0)


@given(VECTORS)
def test_int8_has_127_steps_on_either_side(vectors: np.ndarray) -> None:
    found = as_int8(torch.from_numpy(vectors)).numpy()
    for row, got in zip(vectors, found, strict=True):
        step = np.float32(np.abs(row).max() or 1.0) / np.float32(127)
        assert np.allclose(got, np.round(row / step) * step, rtol=1e-6, atol=0)
        assert len(np.unique(np.round(got / step))) <= 255


@pytest.mark.parametrize("precision", sorted(ROUNDED))
def test_a_finer_format_is_nearer_to_the_exact_product(precision: str) -> None:
    random = torch.Generator().manual_seed(4)
    query, key = torch.randn(200, 64, generator=random), torch.randn(200, 64, generator=random)
    exact = (query.double() * key.double()).sum(-1)
    round_ = ROUNDED[precision]  # type: ignore[index]
    error = ((round_(query) * round_(key)).double().sum(-1) - exact).std() / 8  # of a product whose deviation is 8
    low, high = {"bfloat16": (5e-4, 4e-3), "float16": (5e-5, 5e-4), "fp8": (0.01, 0.05), "int8": (0.003, 0.02),
                 "fp4": (0.05, 0.3)}[precision]  # fmt: skip
    assert low < float(error) < high


def test_a_rotation_spreads_an_outlier_and_keeps_products() -> None:
    vectors = torch.zeros(1, 64)
    vectors[0, :2] = torch.tensor([100.0, 0.4])
    kept = as_fp4(vectors)[0, 1], ROUNDED["fp4"](vectors)[0]
    assert float(kept[0]) == 0.0  # beside the outlier nothing is left of it
    assert abs(float(kept[1].norm()) - 100.0) < 10


@pytest.mark.parametrize("family", ["deepseek_v32", "hy_v4", "mistral_large4"])
def test_index_scores_are_those_of_rounded_queries_and_keys(family: str) -> None:
    model, ids = FAMILIES[family](), tokens()
    _, exact = record(model, ids, LENGTH)
    for precision, tolerance in (("bfloat16", 0.02), ("float16", 0.002), ("fp8", 0.2), ("int8", 0.1), ("fp4", 1.0)):
        edited = FAMILIES[family]()
        apply_edit(edited, Edit(precision=precision))
        _, rounded = record(edited, ids, LENGTH)
        ours, theirs = (seen[0][0].scores for seen in (rounded, exact))
        inside = theirs > -torch.inf
        apart = (ours - theirs)[inside].abs().mean() / theirs[inside].std()
        assert 0 < float(apart) < tolerance, precision
        assert torch.equal(ours > -torch.inf, inside)
