"""At a fixed chunk, the memory of a fit grows with the sequence and not with its square."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from indexscope.analysis.fitting.settings import IndexerSize, TrainingSettings
from indexscope.analysis.fitting.train import Fitting
from tests.analysis.conftest import tiny_dsa, tiny_llama
from tests.analysis.live_bytes import growth

SIZES = (IndexerSize(heads=2, dim=8), IndexerSize(heads=1, dim=8))


def stepping(model: Any, stage: str, chunk: int, queries: int = 32) -> Callable[[int], object]:
    """Steps of one stage on sequences of a length; as many queries of each, whatever the length."""
    fitting = Fitting(model, SIZES, (8,), TrainingSettings(dense=1, sparse=1, queries=queries, chunk=chunk))
    step = next(step for step in fitting.steps if step.stage == stage)
    vocabulary = model.config.get_text_config().vocab_size

    def work(length: int) -> object:
        ids = torch.randint(vocabulary, (1, length))
        return fitting.step(step, ids)

    work(64)  # what the first call compiles and caches, and the optimizer's moments, are no one's growth
    return work


@pytest.mark.parametrize("stage", ["dense", "sparse"])
@pytest.mark.parametrize("build", [tiny_llama, tiny_dsa])
def test_steps_grow_linearly(build: Callable[[], Any], stage: str) -> None:
    work = stepping(build(), stage, 32)
    # Python's own caches may fill in any one round; memory that is quadratic is so in each
    assert any(growth(work) < 2.6 for _ in range(3))


def test_a_step_over_all_queries_at_once_grows_quadratically() -> None:
    work = stepping(tiny_llama(), "dense", 4096, 4096)
    assert growth(work, first=128) > 3.2


def test_a_look_at_held_out_text_grows_linearly() -> None:
    model = tiny_llama()
    fitting = Fitting(model, SIZES, (8,), TrainingSettings(dense=1, sparse=0, chunk=32))

    def work(length: int) -> object:
        return fitting.measure([torch.randint(model.config.vocab_size, (length,))], 32)

    work(64)
    assert any(growth(work) < 2.6 for _ in range(3))
