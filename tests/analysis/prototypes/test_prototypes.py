"""The maps that stand for a cluster are real ones, and the nearest of those that were kept."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from analysis import prototypes
from analysis.capture.journal import Journal
from analysis.capture.protocol import as_source
from analysis.features.attempt import Attempt
from analysis.probe.maps import BINS, map_collector, pooled, unpacked
from analysis.probe.run import collect_samples
from analysis.prototypes.run import KEYS
from analysis.settings import ExtractSettings, PrototypeSettings
from storage.samples import Sample


def kept(samples: list[int]) -> pl.DataFrame:
    rows = [
        (sample, layer, head, 60, query, np.full(BINS, sample + layer + head + query / 100, "<f2").tobytes())
        for sample in samples
        for layer in range(2)
        for head in range(2)
        for query in (20, 59)
    ]
    schema = {"sample": pl.Int32, "layer": pl.Int16, "head": pl.Int16, "length": pl.Int32, "query": pl.Int32}
    return pl.DataFrame(rows, schema={**schema, "map": pl.Binary}, orient="row")


def assignments() -> pl.DataFrame:
    rows = [(s, layer, h, layer, abs(s - 2.2) + h / 10) for s in range(5) for layer in range(2) for h in range(2)]
    schema = {"sample": pl.Int32, "layer": pl.Int16, "head": pl.Int16, "cluster": pl.Int32, "distance": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(pattern_type=pl.lit("local"))


def test_the_nearest_kept_maps_of_each_cluster_are_chosen_in_order() -> None:
    features = {"attention_maps": kept([0, 3, 4]), "clustering.assignments": assignments()}
    found = prototypes.run(features, PrototypeSettings(of_each=3))
    chosen = found["prototypes"].filter(pl.col("cluster") == 1)
    assert chosen.select("rank", "sample", "layer", "head").rows() == [(0, 3, 1, 0), (1, 3, 1, 1), (2, 4, 1, 0)]
    assert chosen["distance"].to_list() == pytest.approx([0.8, 0.9, 1.8])
    maps = found["maps"].filter((pl.col("cluster") == 1) & (pl.col("rank") == 1))
    assert maps["query"].to_list() == [20, 59]
    assert maps["attention"].to_numpy()[:, 0] == pytest.approx([5.2, 5.59], abs=3e-3)


def test_without_maps_or_clusters_there_are_no_prototypes() -> None:
    for features in ({}, {"attention_maps": kept([0])}, {"clustering.assignments": assignments()}):
        found = prototypes.run(features, PrototypeSettings())
        assert [frame.height for frame in found.values()] == [0, 0]


@pytest.mark.parametrize(("keys", "length"), [(1, 100), (31, 31), (60, 100), (100, 100), (7, 4000)])
def test_pooling_sums_the_attention_of_each_part(keys: int, length: int) -> None:
    attention = np.random.default_rng(keys).random((2, 3, keys)).astype(np.float32)
    expected = np.zeros((2, 3, BINS))
    for key in range(keys):
        expected[..., key * BINS // length] += attention[..., key]
    assert pooled(attention, length) == pytest.approx(expected)


def collected(model: object, samples: int, most: int) -> pl.DataFrame:
    random = np.random.default_rng(0)
    texts = [Sample(index, "", tuple(random.integers(0, 97, 40).tolist())) for index in range(samples)]
    attempt = Attempt(source := as_source(model), ExtractSettings(chunk=16), Journal())  # type: ignore[arg-type]
    maker = map_collector([text.index for text in texts], most)
    return collect_samples(source, texts, [maker], 5, attempt)["attention_maps"]


def test_maps_of_a_real_model_hold_all_its_attention(dsa: object) -> None:
    table = collected(dsa, samples=2, most=24)
    assert table.height == 2 * 3 * 4 * 5, "of two samples three layers of four heads at five queries: all there are"
    assert unpacked(table["map"].to_list()).sum(axis=1) == pytest.approx(1.0, abs=5e-3)


def test_where_there_are_too_many_every_sample_keeps_some_maps_and_every_head_is_kept_of_some(dsa: object) -> None:
    whole, some = collected(dsa, samples=6, most=1000), collected(dsa, samples=6, most=15)
    heads = some.select(KEYS).unique()
    assert heads.height == 15, "every fifth of 6 x 12 maps, of the i-th sample from the i-th on"
    assert heads.group_by("sample").len()["len"].to_list() == pytest.approx([2.5] * 6, abs=0.5)
    assert heads.select("layer", "head").n_unique() == 12
    assert some.join(whole, on=whole.columns, how="semi").height == some.height == 5 * heads.height
