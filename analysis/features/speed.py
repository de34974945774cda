"""How long this machine takes to attend to keys and measure it: a chunk of planted attention, timed."""

from __future__ import annotations

import time

import torch

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.features.layer import LayerFeatures
from indexscope.analysis.settings import ExtractSettings

HEADS, QUERIES, KEYS, SELECTED = 4, 64, 4096, 256
#: Times after the one that loads the kernels; the shortest counts.
TIMES = 3


def seconds_per_pair(width: int, device: torch.device, settings: ExtractSettings) -> float:
    """Seconds that one query, one key and one attention head take in an extraction on this machine.

    Args:
        width: Numbers of a head's key.
        device: Where models run.
        settings: As for the extraction.
    """
    random = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random).to(device)

    scores = drawn(1, QUERIES, KEYS)
    eligible = torch.ones((QUERIES, KEYS), dtype=torch.bool, device=device).tril(KEYS - QUERIES)[None, None]
    scores = scores.masked_fill(~eligible[:, 0], -torch.inf)
    selected = torch.zeros_like(eligible).scatter_(-1, scores.topk(SELECTED).indices[:, None], True) & eligible
    query, key, value = (drawn(1, HEADS, count, width) for count in (QUERIES, KEYS, KEYS))
    chunk = AttentionChunk(0, KEYS - QUERIES, query, key, value, eligible, selected, scores, width**-0.5)
    ids = torch.randint(1 << 16, (1, KEYS), generator=random).to(device)
    found = []
    for _ in range(1 + TIMES):
        layer = LayerFeatures(settings, 1, HEADS, KEYS, SELECTED, device)
        began = time.perf_counter()
        float(layer.add(chunk, ids).sum())  # waits for the device
        found.append(time.perf_counter() - began)
    return min(found[1:]) / (HEADS * QUERIES * KEYS)
