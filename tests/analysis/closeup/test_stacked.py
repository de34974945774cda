"""Claims about layers that are looked at together, and about the groups that their queries fall into."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from indexscope.analysis.closeup import stacked as module
from indexscope.analysis.closeup.collect import CloseupSample
from indexscope.analysis.closeup.stacked import by_layer, stacked
from indexscope.analysis.closeup.weighted import Queries, grouped
from indexscope.analysis.indexer_heads.collect import head_collector, pruning_collector
from indexscope.analysis.key_budget.collect import budget_collector, drift_collector
from indexscope.analysis.stability.collect import stability_collector
from indexscope.columns import of, table_of
from tests.analysis.closeup.head_rows import random_rows
from tests.analysis.closeup.made_rows import made, topk

LENGTH = 40
MAKERS = (
    budget_collector(),
    drift_collector(),
    stability_collector(),
    head_collector(),
    pruning_collector({0: np.array([2, 0, 1, 3]), 5: np.arange(4)}),
)


def layers() -> list:  # type: ignore[type-arg]
    """Heads in layers 0, 1 and 5, scores alone in 2, dense attention in 3 and 4."""
    heads = {layer: random_rows(layer, keys=LENGTH, layer=layer) for layer in (0, 1, 5)}
    query = heads[0].query
    random = torch.Generator().manual_seed(0)
    p = torch.rand(len(query), LENGTH, generator=random)
    scores = torch.randint(4, p.shape, generator=random).float()
    bare = made(p, scores, topk(scores, query, 5), query, layer=2)
    dense = [made(p, query=query, layer=layer) for layer in (3, 4)]
    return [heads[0], heads[1], bare, *dense, heads[5]]


def test_layers_together_say_what_each_says_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    together = [(part.layer.tolist()[0], len(set(part.layer.tolist()))) for part in stacked(layers())]
    assert together == [(0, 2), (2, 1), (3, 2), (5, 1)]
    sample = CloseupSample(0, "d0", torch.arange(LENGTH) % 7, layers()[0].query)

    def tables() -> dict[str, pl.DataFrame]:
        found: dict[str, pl.DataFrame] = {}
        for make in MAKERS:
            collector = make(sample)
            collector.add(layers())
            found |= collector.tables()
        return found

    at_once = tables()
    monkeypatch.setattr(module, "_ENTRIES", {"cpu": 1})
    assert [len(set(part.layer.tolist())) for part in stacked(layers())] == [1] * 6
    for name, frame in tables().items():
        assert frame.height, name
        assert_frame_equal(frame, at_once[name], rel_tol=1e-12)


def test_each_layer_is_one_stretch() -> None:
    assert list(by_layer(np.array([0, 0, 3, 7, 7]))) == [(0, slice(0, 2)), (3, slice(2, 3)), (7, slice(3, 5))]
    assert list(by_layer(np.array([], dtype=np.int64))) == []


def test_groups_are_weighted_means_over_known_values_in_the_order_of_the_key() -> None:
    table = table_of(
        "sample, layer, bucket, variant",
        "sample layer bucket variant",
        of(pl.String, variant="A word."),
        of(pl.Int32, "queries", queries="Number."),
        of(pl.Float64, "queries", weight="Weight."),
        of(pl.Float64, "share", "weight", value="A mean."),
        of(pl.Float64, "share", largest="No mean."),
    )
    random = np.random.default_rng(0)
    parts = []
    for variant in ("late", "early"):
        values = {"weight": random.integers(1, 5, 30) * 1.0, "value": random.random(30)}
        values["value"][random.random(30) < 0.5] = np.nan
        place = {"layer": random.integers(0, 3, 30), "bucket": random.integers(0, 4, 30), "variant": variant}
        parts.append(Queries(place, values))
    parts.append(
        Queries(
            {"layer": 9, "bucket": np.array([1]), "variant": "late"},
            {"weight": np.ones(1), "value": np.array([np.nan])},
        )
    )
    found = grouped(parts, table, 6, lambda groups: {"largest": groups.most("value")})
    rows = pl.concat(
        [
            pl.DataFrame({name: part.at(name) for name in part.place} | dict(part.values), nan_to_null=True)
            for part in parts
        ]
    )
    known = pl.col("weight").filter(pl.col("value").is_not_null()).sum()
    expected = (
        rows.group_by("layer", "bucket", "variant")
        .agg(
            pl.len().alias("queries"),
            pl.col("weight").sum(),
            ((pl.col("value") * pl.col("weight")).sum() / known).fill_nan(None).alias("value_"),
            pl.col("value").max().alias("largest"),
        )
        .rename({"value_": "value"})
        .sort("layer", "bucket", "variant")
        .with_columns(sample=pl.lit(6))
    )
    assert_frame_equal(found, table.shaped(expected))
    assert found["value"].null_count() >= 1
    assert grouped([], table, 0).schema == table.schema
