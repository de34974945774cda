"""The maps that stand for a cluster are real ones, and the nearest of those that were kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.protocol import as_source
from indexscope.analysis.closeup.collect import CloseupSample, Maker
from indexscope.analysis.closeup.looking import collect_samples
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.prototypes import PrototypeSettings
from indexscope.analysis.prototypes import run as prototypes
from indexscope.analysis.prototypes.collect import map_collector
from indexscope.analysis.prototypes.maps import pooled, unpacked
from indexscope.analysis.prototypes.run import KEYS, examples
from indexscope.analysis.prototypes.tables import BINS
from indexscope.analysis.settings import ExtractSettings
from indexscope.storage.inputs.samples import Sample


def kept(samples: list[int]) -> pl.DataFrame:
    rows = [
        (sample, layer, head, 60, query, np.full(BINS, sample + layer + head + query / 100, "<f2").tobytes())
        for sample in samples
        for layer in range(2)
        for head in range(2)
        for query in (20, 59)
    ]
    schema = {"sample": pl.Int32, "layer": pl.Int16, "head": pl.Int16, "length": pl.Int32, "query": pl.Int32}
    return pl.DataFrame(rows, schema={**schema, "map": pl.Binary}, orient="row").with_columns(
        kept=pl.lit(None, dtype=pl.Binary)
    )


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
        assert [frame.height for frame in found.values()] == [0] * 4


@pytest.mark.parametrize(("keys", "length"), [(1, 100), (31, 31), (60, 100), (100, 100), (7, 4000)])
def test_pooling_sums_the_attention_of_each_part(keys: int, length: int) -> None:
    attention = np.random.default_rng(keys).random((2, 3, keys)).astype(np.float32)
    expected = np.zeros((2, 3, BINS))
    for key in range(keys):
        expected[..., key * BINS // length] += attention[..., key]
    assert pooled(attention, length) == pytest.approx(expected)


def collected(model: object, samples: int, most: int, also: Sequence[Maker] = ()) -> pl.DataFrame:
    random = np.random.default_rng(0)
    texts = [Sample(index, "", tuple(random.integers(0, 97, 40).tolist())) for index in range(samples)]
    attempt = Attempt(source := as_source(model), ExtractSettings(chunk=16), Journal())  # type: ignore[arg-type]
    maker = map_collector([text.index for text in texts], most)
    return collect_samples(source, texts, [maker, *also], 5, attempt)["attention_maps"]


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
    assert some.join(whole, on=whole.columns, how="semi", nulls_equal=True).height == some.height == 5 * heads.height


def halved(lost: dict[int, float]) -> pl.DataFrame:
    """Maps of heads whose attention lies on parts 3 and 4, of which so much, on part 4, is left out."""
    rows = []
    for head, share in lost.items():
        attention, selected = np.zeros((2, BINS), "<f2")
        attention[3], attention[4], selected[3] = 1 - share, share, 1 - share
        whole = (0, 0, head, 96)
        rows += [(*whole, 20, attention.tobytes(), None), (*whole, 95, attention.tobytes(), selected.tobytes())]
    schema = {"sample": pl.Int32, "layer": pl.Int16, "head": pl.Int16, "length": pl.Int32, "query": pl.Int32}
    return pl.DataFrame(rows, schema={**schema, "map": pl.Binary, "kept": pl.Binary}, orient="row")


def test_examples_are_the_most_the_median_and_the_least_that_a_selection_loses() -> None:
    found, maps = examples(halved({0: 0.25, 1: 0.5, 2: 0.0, 3: 0.125, 4: 0.75}))
    assert found.select("example", "head").rows() == [("most", 4), ("middle", 0), ("least", 2)]
    assert found["lost"].to_list() == [0.75, 0.25, 0.0] and found["recall"].to_list() == [0.25, 0.75, 1.0]
    assert found["of_maps"].to_list() == [5] * 3
    assert maps["query"].to_list() == [20, 95] * 3 and maps["in_effect"].to_list() == [False, True] * 3
    dense, sparse = maps["dense"].to_numpy(), maps["sparse"].to_numpy()
    assert dense[0, 3:5].tolist() == dense[1, 3:5].tolist() == [0.25, 0.75]
    assert sparse[0, 3:5].tolist() == [0.25, 0.75], "where nothing is left out both are the same"
    assert sparse[1, 3:5].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("lost", "names"), [({}, []), ({0: 0.5}, ["most"]), ({0: 0.5, 1: 0.25}, ["most", "middle"])])
def test_fewer_maps_are_fewer_examples(lost: dict[int, float], names: list[str]) -> None:
    found, maps = examples(halved(lost))
    assert found["example"].to_list() == names
    assert maps["example"].to_list() == [name for name in names for _ in range(2)]


def test_a_head_of_which_nothing_is_kept_has_no_sparse_map() -> None:
    _, maps = examples(halved({0: 1.0}))
    assert np.isnan(maps["sparse"].to_numpy()[1]).all()


def test_what_is_kept_of_a_real_model_is_its_recall(dsa: object) -> None:
    masses: dict[tuple[int, int, int, int], float] = {}

    class Masses:
        def __init__(self, sample: CloseupSample) -> None:
            self.sample = sample.index

        def add(self, layers: Sequence[CloseupRows]) -> None:
            for rows in layers:
                assert rows.selected is not None
                mass = rows.head_p.double().masked_fill(~rows.selected, 0).sum(-1)
                for head, place in np.ndindex(*mass.shape):
                    masses[self.sample, rows.layer, head, int(rows.query[place])] = float(mass[head, place])

        def tables(self) -> dict[str, pl.DataFrame]:
            return {}

    table = collected(dsa, samples=2, most=24, also=[Masses])
    known = table.filter(pl.col("kept").is_not_null())
    assert known["query"].min() >= dsa.config.index_topk > table["query"].min()  # type: ignore[attr-defined]
    recall = unpacked(known["kept"].to_list()).sum(axis=1)
    assert recall == pytest.approx([masses[row] for row in known.select(*KEYS, "query").rows()], abs=2e-3)
    assert 0.1 < recall.mean() < 0.95
