"""At a fixed chunk, memory grows with the sequence and not with its square: what tensors and arrays hold, counted."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from indexscope.analysis.capture import AttentionChunk, CapturedModel, capture_sparse
from indexscope.analysis.closeup.looking import Looking
from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.layer import LayerFeatures
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


def test_a_layer_that_has_seen_its_last_chunk_keeps_no_sums_as_long_as_the_sequence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that is read layer by layer keeps what all layers gathered until the last is through."""
    kept: list[int] = []
    settle = LayerFeatures.settle

    def settled(layer: LayerFeatures) -> None:
        settle(layer)
        kept.append(len(pickle.dumps(layer.shape)))

    monkeypatch.setattr(LayerFeatures, "settle", settled)
    work = extraction(tiny_dsa())
    kept.clear()
    for length in (256, 512):
        work(length)
    assert len(kept) > 2 and len(set(kept)) == 1


def test_what_is_looked_at_closely_is_kept_without_the_keys_and_values_of_a_layer() -> None:
    looking, ids = Looking(Sample(0, "", tuple(range(1, 65))), [], 4), torch.arange(1, 65)[None]

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        looking.observe(chunk)
        return capture_sparse(chunk)

    for _ in CapturedModel(tiny_llama()).run(ids, observe, 64):
        pass
    (layers,) = looking.state()[0].values()
    assert len(layers) == 2
    for resting in layers.values():
        rows = resting.taken()
        own = sum(part.nbytes for part in vars(rows).values() if isinstance(part, torch.Tensor))
        assert len(pickle.dumps(rows)) < own + 4096 < own + 2 * 2 * 64 * 12 * 4


def test_the_plain_forward_grows_quadratically() -> None:
    model = tiny_dsa()
    model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        assert growth(lambda length: model(torch.randint(97, (1, length)), use_cache=False), first=128) > 3.4
