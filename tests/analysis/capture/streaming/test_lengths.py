"""Caches that tell lengths of layers that are not filled."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from indexscope.analysis.capture.streaming.lengths import LayerCache
from tests.analysis.capture.tiny_architectures import tiny
from tests.analysis.capture.tiny_families import FAMILIES

PIECES = (7, 7, 1, 12)


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "qwen3_next", "deepseek_v32"])
def test_every_layer_tells_the_lengths_of_a_cache_that_is_filled(name: str) -> None:
    config = (FAMILIES[name]() if name in FAMILIES else tiny(name)).config
    filled, told = DynamicCache(config=config), LayerCache(config=config)
    layers = range(len(filled.layers))
    attending = [layer for layer in layers if hasattr(filled.layers[layer], "get_seq_length")]
    assert (told.is_sliding, told.is_linear, told.is_dummy) == (filled.is_sliding, filled.is_linear, filled.is_dummy)
    for tokens in PIECES:
        states = torch.zeros((2, 1, tokens, 4))
        for layer in attending:
            filled.update(states, states, layer)
        told.advance(-1, 2, tokens)
        for layer in attending[:1] if tokens == 7 else attending:
            assert told.get_seq_length(layer) == filled.get_seq_length(layer)
            assert told.get_mask_sizes(5, layer) == filled.get_mask_sizes(5, layer)


def test_a_layer_that_nobody_asks_is_not_made_longer() -> None:
    cache = LayerCache(config=tiny("llama").config)
    cache.advance(0, 1, 5)
    assert cache.get_seq_length(1) == 5
    assert cache.get_seq_length(0) == 0, "the layer that is filled fills itself"
    cache.advance(0, 1, 5)
    assert [layer.keys.shape[-2] for layer in list.__iter__(cache.layers) if layer.keys is not None] == [5]
    assert [cache.get_seq_length(layer) for layer in range(2)] == [0, 10]
