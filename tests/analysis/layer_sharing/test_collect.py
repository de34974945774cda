"""Claims about the reuse of selections across layers, as the close-up measures it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.protocol import as_source
from indexscope.analysis.closeup.collect import CloseupSample
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.layer_sharing.collect import sharing_collector
from indexscope.analysis.layer_sharing.tables import LAYER_SHARING
from indexscope.analysis.settings import ExtractSettings
from tests.analysis.capture.tiny_families import FAMILIES
from tests.analysis.closeup.rows_of import planted_rows
from tests.analysis.samples import samples

SAMPLE = CloseupSample(3, "planted", torch.arange(50))


def collected(*chunks: list[CloseupRows]) -> pl.DataFrame:
    collector = sharing_collector()(SAMPLE)
    for chunk in chunks:
        collector.add(chunk)
    return collector.tables()["layer_sharing"]


def row(frame: pl.DataFrame, layer: int, source: int) -> dict[str, float]:
    return frame.filter(pl.col("layer") == layer, pl.col("source") == source).row(0, named=True)


def chosen(keys: int, *sets: list[int]) -> np.ndarray:
    return np.array([[key in own for key in range(keys)] for own in sets])


def test_planted_selections_give_their_jaccard_overlap_and_recall() -> None:
    p = np.full((2, 10), 0.1)
    earlier = planted_rows(0, [8, 9], chosen(10, [0, 1, 2, 3], [0, 1, 2, 3]), p, [1.0, 3.0])
    later = planted_rows(2, [8, 9], chosen(10, [2, 3], [3, 9]), p, [1.0, 3.0])
    found = collected([earlier, later])
    own, shared = row(found, 2, 2), row(found, 2, 0)
    assert own["recall"] == shared["own_recall"] == pytest.approx(0.2)
    assert (own["jaccard"], own["overlap"]) == (1.0, 1.0)
    assert shared["jaccard"] == pytest.approx((2 / 4 + 3 * 1 / 5) / 4)
    assert shared["overlap"] == pytest.approx((1.0 + 3 * 0.5) / 4)
    assert shared["recall"] == pytest.approx(0.4)
    assert shared["oracle_recall"] == pytest.approx(0.2)
    assert shared["random_recall"] == pytest.approx((2 / 9 + 3 * 2 / 10) / 4)
    assert (shared["queries"], shared["weight"]) == (2, 4.0)
    assert found.select("layer", "source").rows() == [(0, 0), (2, 0), (2, 2)]


def test_queries_that_select_everything_do_not_count() -> None:
    p = np.full((2, 10), 0.1)
    everything = np.ones((2, 10), dtype=bool)
    some = chosen(10, list(range(3)), [1, 2, 3])
    found = collected([planted_rows(0, [2, 9], some, p, [3.0, 7.0]), planted_rows(1, [2, 9], everything, p)])
    assert (row(found, 0, 0)["queries"], row(found, 0, 0)["weight"]) == (1, 7.0)
    assert (row(found, 1, 0)["queries"], row(found, 1, 0)["recall"]) == (0, None)


def test_dense_layers_are_left_out_and_sharing_ones_flagged() -> None:
    p = np.full((1, 10), 0.1)
    some = chosen(10, [1, 2])
    chunk = [planted_rows(0, [9], some, p), planted_rows(1, [9], None, p), planted_rows(2, [9], some, p, own=False)]
    assert collected(chunk).select("layer", "source", "own").rows() == [(0, 0, True), (2, 0, False), (2, 2, False)]
    empty = collected([planted_rows(0, [9], None, p)])
    assert empty.is_empty() and dict(empty.schema) == {name: kind for name, kind in LAYER_SHARING.schema.items()}


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_any_rows_agree_with_a_slow_reference_in_any_chunks(seed: int) -> None:
    random = np.random.default_rng(seed)
    keys, query, weight = 14, [5, 9, 13], [2.0, 3.0, 5.0]
    p = random.random((3, 3, keys))
    selected = random.random((3, 3, keys)) < 0.4
    whole = [planted_rows(layer, query, selected[layer], p[layer], weight) for layer in range(3)]
    parts = [
        [planted_rows(layer, query[:1], selected[layer][:1, :6], p[layer][:1, :6], weight[:1]) for layer in range(3)],
        [planted_rows(layer, query[1:], selected[layer][1:], p[layer][1:], weight[1:]) for layer in range(3)],
    ]
    one, two = collected(whole), collected(*parts)
    means = [name for name in LAYER_SHARING.schema if name not in ("sample", "layer", "source", "own")]
    for layer in range(3):
        for source in range(layer + 1):
            expected = reference(p[layer], selected[layer], selected[source], query, weight)
            for found in (one, two):
                values = [row(found, layer, source)[name] for name in means]
                assert values == pytest.approx(expected, rel=1e-5, abs=1e-7)


def reference(
    p: np.ndarray, own: np.ndarray, given_keys: np.ndarray, query: list[int], weight: list[float]
) -> list[float]:
    """Sets and sums as the definition has them."""
    rows = []
    for place, t in enumerate(query):
        mine = {s for s in range(t + 1) if own[place, s]}
        other = {s for s in range(t + 1) if given_keys[place, s]}
        if len(mine) == t + 1:
            continue
        union, k = mine | other, len(mine)
        best = sorted(p[place, : t + 1], reverse=True)[:k]
        values = [
            len(mine & other) / len(union) if union else 0.0,
            len(mine & other) / k if k else 0.0,
            sum(p[place, s] for s in other),
            sum(p[place, s] for s in mine),
            sum(best),
            k / (t + 1),
        ]
        rows.append((weight[place], values))
    total = sum(share for share, _ in rows)
    return [len(rows), total, *np.sum([share * np.array(values) for share, values in rows], axis=0) / total]


@pytest.mark.parametrize("family", ["deepseek_v32", "glm_moe_dsa", "mistral_large4", "dots3_note", "glm5_next"])
def test_layers_of_real_families_that_share_are_equal_to_their_source(family: str) -> None:
    model = FAMILIES[family]().eval()
    source = as_source(model)
    attempt = Attempt(source, ExtractSettings(chunk=16, device="cpu"), Journal())
    frame = collect_samples(source, samples(40, 30), [sharing_collector()], 6, attempt)["layer_sharing"]
    assert frame["sample"].unique().sort().to_list() == [0, 1]
    own = frame.filter("own")["layer"].unique().sort().to_list()
    shares = {"deepseek_v32": [], "glm_moe_dsa": [1, 3], "mistral_large4": [2], "dots3_note": [], "glm5_next": [2]}
    assert frame.filter(~pl.col("own"))["layer"].unique().sort().to_list() == shares[family]
    assert len(own) >= 2
    known = frame.filter(pl.col("weight") > 0)
    assert known.height == frame.height > 0
    for layer in shares[family]:
        source_layer = max(place for place in own if place < layer)
        reused = known.filter(pl.col("layer") == layer, pl.col("source") == source_layer)
        assert reused["jaccard"].to_list() == reused["overlap"].to_list() == [1.0, 1.0]
        assert reused["recall"].to_list() == reused["own_recall"].to_list()
    tolerance = 1e-6
    assert (
        known.filter(pl.col("recall") > pl.col("oracle_recall") + tolerance)
        .filter(pl.col("layer") == pl.col("source"))
        .is_empty()
    )
    assert known.filter(pl.col("jaccard") > pl.col("overlap") + tolerance).is_empty()
