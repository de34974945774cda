"""At a fixed chunk, memory grows with the sequence and not with its square: what tensors and arrays hold, counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from indexscope.analysis.features import extract_samples
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.capture.tiny_families import FAMILIES
from tests.analysis.conftest import tiny_dsa, tiny_llama
from tests.analysis.live_bytes import growth
from tests.analysis.samples import Sample


def extraction(model: Any) -> Callable[[int], object]:
    settings = ExtractSettings(chunk=32, dense_reference=False)

    def work(length: int) -> object:
        ids = torch.randint(model.config.get_text_config().vocab_size, (length,)).tolist()
        return extract_samples(model, [Sample(0, "", tuple(ids))], settings)

    work(64)  # what the first call compiles and caches is no one's growth
    return work


@pytest.mark.parametrize("build", [tiny_dsa, tiny_llama, *FAMILIES.values()])
def test_extraction_grows_linearly(build: Callable[[], Any]) -> None:
    work = extraction(build())
    # Python's own caches may fill in any one round; memory that is quadratic is so in each
    assert any(growth(work) < 2.6 for _ in range(3))


def test_the_plain_forward_grows_quadratically() -> None:
    model = tiny_dsa()
    model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        assert growth(lambda length: model(torch.randint(97, (1, length)), use_cache=False), first=128) > 3.4
