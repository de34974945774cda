"""How much of a selection the query before it made already: planted selections, and no dependence on chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from indexscope.analysis.features import extract_samples
from indexscope.analysis.features.before import LastSelections
from indexscope.analysis.features.metrics.reuse import reused
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.conftest import tiny_dsa
from tests.analysis.features.drawn import features_of, part, whole
from tests.analysis.samples import samples

N = 40
Mask = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("step", [1, 7, 16, N])
@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (lambda t, s: s < 4, 1.0),  # the same keys
        (lambda t, s: t - s < 4, 0.75),  # a window: all but the newest
        (lambda t, s: (t - s) % 2 == 0, 0.0),  # every other key, in turn
    ],
)
def test_planted_selections_are_reused_as_planted(compiled: bool, step: int, mask: Mask, expected: float) -> None:
    t, s = torch.arange(N)[:, None], torch.arange(N)[None, :]
    chunk = whole(N)
    layer, _ = features_of(replace(chunk, selected=mask(t, s)[None, None] & chunk.eligible), compiled, step)
    # From 16 on every query leaves keys out, and the one before it does too.
    np.testing.assert_allclose(layer.per_query.means()["selection_reuse"][0, 4:], expected)
    counts = layer.per_query.counts[layer.per_query.names.index("selection_reuse")]
    assert counts[0, 4:].tolist() == [16, 9]


def test_a_cache_that_drops_its_oldest_keys_changes_nothing() -> None:
    chunk, last = whole(N, window=9), LastSelections()
    found = []
    for first in range(0, N, 5):
        own = part(chunk, first, first + 5)
        slid = last.carried(replace(own, selected=own.selected[..., max(0, first - 8) :]))
        found.append(reused(slid, 0, 5))
    torch.testing.assert_close(torch.cat(found, 1), reused(chunk, 0, N), equal_nan=True)


def test_without_the_query_before_nothing_is_said() -> None:
    chunk = whole(N)
    alone = LastSelections().carried(part(chunk, 10, 20))
    assert reused(alone, 0, 10).isnan().tolist() == [[True] + [False] * 9]
    gap = LastSelections()
    gap.carried(part(chunk, 0, 5))
    assert gap.carried(part(chunk, 10, 20)).before is None


@pytest.mark.parametrize("every", [1, 3])
def test_reuse_does_not_depend_on_the_chunk_nor_on_measuring_few_queries(every: int) -> None:
    tables = [
        extract_samples(tiny_dsa(), samples(150), ExtractSettings(chunk=chunk, query_every=every))["indexer"]
        for chunk in (16, 40, 150)
    ]
    keys = ["sample", "layer", "bucket"]
    first, *others = (table.sort(keys).filter(pl.col("queries_in_effect") > 0) for table in tables)
    assert first["selection_reuse"].null_count() == 0
    for other in others:
        np.testing.assert_allclose(other["selection_reuse"], first["selection_reuse"], atol=5e-3)
