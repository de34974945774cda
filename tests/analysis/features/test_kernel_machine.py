"""What kernels meet on foreign machines: several callers at once, no OpenMP to borrow, no folder for their cache."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numba.core.caching import FunctionCache

from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.kernels import compiled, pool
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample
from tests.analysis.conftest import tiny_dsa

SAMPLES = [Sample(i, f"s{i}", tuple((7 * i + 3 * j * j) % 97 for j in range(130))) for i in range(4)]
SETTINGS = ExtractSettings(chunk=32, dense_reference=False)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_several_callers_at_once_get_what_each_gets_alone() -> None:
    model = tiny_dsa()
    expected = extract_samples(model, SAMPLES, SETTINGS)
    with ThreadPoolExecutor(4) as callers:
        for tables in callers.map(lambda _: extract_samples(model, SAMPLES, SETTINGS), range(12)):
            for name, table in tables.items():
                assert table.equals(expected[name]), name


@pytest.mark.usefixtures("two_threads")
def test_without_openmp_the_caller_does_it_alone_with_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_dsa()
    expected = extract_samples(model, SAMPLES, SETTINGS)
    monkeypatch.setattr(pool, "parallel_region", lambda: None)
    monkeypatch.setattr(pool, "run_on_openmp", lambda *_: pytest.fail("there is no OpenMP"))
    for name, table in extract_samples(model, SAMPLES, SETTINGS).items():
        assert table.equals(expected[name]), name


def test_without_a_writable_cache_a_kernel_compiles_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FunctionCache._impl_class, "_locator_classes", [])

    def double(values: np.ndarray) -> float:  # type: ignore[type-arg]
        total = 0.0
        for value in values:
            total += 2 * value
        return total

    assert compiled.kernel(double)(np.arange(5.0)) == 20.0
