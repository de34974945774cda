"""The maps that stand for clusters, and what the selection leaves out of some, are drawn as they are."""

from __future__ import annotations

import numpy as np
import polars as pl

from indexscope.analysis.plots.attention_maps import sparse_against_dense
from indexscope.analysis.prototypes import panel as prototypes_panel
from indexscope.analysis.prototypes.figures import prototype_maps
from indexscope.analysis.prototypes.run import examples
from tests.report.drawing import drawn
from tests.report.studies import study


def test_a_prototype_shows_its_attention_and_nothing_of_the_future() -> None:
    chosen = pl.DataFrame(
        {"cluster": [0], "rank": [0], "sample": [5], "layer": [1], "head": [2], "pattern_type": ["local"]}
    )
    attention = np.tile(np.arange(48) / 48, (2, 1))
    maps = pl.DataFrame({"cluster": [0, 0], "rank": [0, 0], "length": [96, 96], "query": [47, 95]}).with_columns(
        pl.Series("attention", attention, dtype=pl.Array(pl.Float32, 48))
    )
    figure = prototype_maps(chosen, maps)
    assert figure is not None
    cells = figure.axes[0].images[0].get_array()
    future = np.ma.getmaskarray(np.ma.masked_invalid(cells)).sum(axis=1).tolist()
    # Two queries for 96 tokens: each fills the half that is nearest to it, and nothing is drawn far before the first.
    assert future == [48] * 23 + [24] * 49 + [0] * 24
    left, right, bottom, top = figure.axes[0].images[0].get_extent()
    assert (left, right, bottom, top) == (0, 96, 96, 0) and figure.axes[0].get_aspect() == 1
    assert figure.axes[0].get_title() or figure.axes[0].get_title(loc="left") == "0: layer 1 head 2"
    assert prototype_maps(chosen.clear(), maps) is None


def test_sparse_attention_stands_beside_the_dense_one_and_their_difference() -> None:
    attention, selected = np.zeros((2, 48), "<f2")
    attention[3], attention[40], selected[3] = 0.75, 0.25, 0.75
    row = (7, 1, 2, 96, 95, attention.tobytes(), selected.tobytes())
    found, maps = examples(
        pl.DataFrame([row], schema=["sample", "layer", "head", "length", "query", "map", "kept"], orient="row")
    )
    figure = sparse_against_dense(found, maps)
    assert figure is not None
    dense, sparse, difference, *_ = figure.axes
    assert [axes.get_images()[0].get_array()[-1, 3] for axes in (dense, sparse, difference)] == [0.75, 1.0, 0.25]
    assert [axes.get_images()[0].get_array()[-1, 40] for axes in (dense, sparse, difference)] == [0.25, 0.0, -0.25]
    assert dense.get_ylabel() == "worst head: layer 1, head 2\nquery position (tokens)"
    frames = {"examples": found, "example_maps": maps}
    assert prototypes_panel.words_on_examples(frames) == [
        "Of 1 map with something left out, the worst head loses 25\u202f% of its dense attention."
    ]
    (picture,) = drawn(prototypes_panel.EXAMPLES, frames)
    assert "Sparse against dense attention" in picture
    assert sparse_against_dense(found.clear(), maps.clear()) is None and drawn(prototypes_panel.EXAMPLES, {}) == []


def test_the_map_of_each_model_that_loses_most_is_a_row_of_squares_in_tokens() -> None:
    def frames(layer: int) -> dict[str, pl.DataFrame]:
        rows = []
        for sample, lost in ((3, 0.25), (5, 0.75)):
            attention, kept = np.zeros((2, 48), "<f2")
            attention[3], attention[40], kept[3] = 1 - lost, lost, 1 - lost
            rows.append((sample, layer, 2, 960, 959, attention.tobytes(), kept.tobytes()))
        names = ["sample", "layer", "head", "length", "query", "map", "kept"]
        found, maps = examples(pl.DataFrame(rows, schema=names, orient="row"))
        return {"examples": found, "example_maps": maps}

    asked = study({name: {"prototypes": frames(layer)} for layer, name in enumerate(("base", "light"))})
    figure = prototypes_panel.EXAMPLES.across(asked)[0].figure
    panels = [axes for axes in figure.axes if axes.get_images()]
    assert [axes.get_title(loc="left") for axes in panels[:3]] == [
        "dense",
        "sparse: 75.0\u202f% left out",
        "sparse less dense",
    ]
    assert [axes.get_ylabel() for axes in panels[::3]] == [
        "base: layer 0, head 2\nquery position (tokens)",
        "light: layer 1, head 2\nquery position (tokens)",
    ]
    assert all(axes.get_images()[0].get_extent() == [0, 960, 960, 0] and axes.get_aspect() == 1 for axes in panels)
    assert set(figure.data["sample"]) == {5}
    own = figure.data.filter((pl.col("panel") == "light, sparse less dense") & (pl.col("attention") != 0))
    assert own.select("keys_from", "attention").rows() == [(60, 0.75), (800, -0.75)]
    assert prototypes_panel.EXAMPLES.across(study({"dense": {}}))[0].figure is None
