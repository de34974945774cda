"""What uniform attention would have is taken over the very queries and keys that were measured."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.features.layer import LayerFeatures
from indexscope.analysis.features.sampling import measured_parts
from indexscope.analysis.features.tables import attention_table
from indexscope.analysis.features.uniform import UNIFORM
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.features.reference import uniform_row

LENGTH, HEADS, CHUNK = 150, 2, 50
SETTINGS = ExtractSettings(local_window=7, sink_keys=3)
KEYS = {
    "causal": lambda t, s: s <= t,
    "sliding window": lambda t, s: (s <= t) & (t - s < 40),
    "padding before": lambda t, s: (s <= t) & (s >= 30),
}


def whole(eligible: torch.Tensor) -> list[AttentionChunk]:
    random = torch.Generator().manual_seed(0)
    query, key, value = torch.randn((3, 2, HEADS, LENGTH, 8), generator=random)
    return [
        AttentionChunk(
            layer=0,
            start=start,
            query=query[:, :, start : start + CHUNK],
            key=key[:, :, : start + CHUNK],
            value=value[:, :, : start + CHUNK],
            eligible=eligible[None, None, start : start + CHUNK, : start + CHUNK],
            selected=None,
            scores=None,
            scaling=8**-0.5,
        )
        for start in range(0, LENGTH, CHUNK)
    ]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("keys", KEYS)
def test_uniform_attention_is_told_of_the_measured_queries_and_their_eligible_keys(
    keys: str, every: int, compiled: bool
) -> None:
    t, s = torch.meshgrid(torch.arange(LENGTH), torch.arange(LENGTH), indexing="ij")
    eligible = KEYS[keys](t, s)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 12, (2, LENGTH)))
    layer = LayerFeatures(SETTINGS, 2, HEADS, LENGTH, 4, torch.device("cpu"), compiled=compiled)
    seen = []
    for chunk in whole(eligible):
        for part in measured_parts(chunk, LENGTH, every):
            layer.add(part, ids)
            seen += range(part.start, part.start + part.eligible.shape[2])
    assert len(seen) == LENGTH if every == 1 else len(seen) < LENGTH / 2
    found = attention_table([0, 1], {0: layer})
    for sample in range(2):
        rows = [
            {"bucket": (t + 1).bit_length() - 1}
            | uniform_row(eligible[t].nonzero().flatten().tolist(), t, 7, 3, ids[sample].tolist())
            for t in seen
            if eligible[t].any()
        ]
        expected = pl.DataFrame(rows).group_by("bucket").mean().sort("bucket")
        for head in range(HEADS):
            own = found.filter(sample=sample, head=head)
            assert own["bucket"].to_list() == expected["bucket"].to_list()
            for name in UNIFORM:
                np.testing.assert_allclose(own[name].to_numpy(), expected[name].to_numpy(), rtol=1e-5, err_msg=name)
