"""What the report says of clusters: whether they can be believed, how maps moved, what they look like."""

from __future__ import annotations

import numpy as np
import polars as pl

from indexscope.analysis.plots.attention_maps import sparse_against_dense
from indexscope.analysis.plots.prototypes import prototype_maps
from indexscope.analysis.plots.transitions import transition_maps
from indexscope.analysis.prototypes.examples import examples
from indexscope.analysis.report.panels import clustering, transitions
from indexscope.analysis.report.panels import examples as examples_panel

MOVED = pl.DataFrame(
    [(None, "cluster", 0.125, 0.05, 0.25, 9), (0, "cluster", 0.0, 0.0, 0.0, 9), (1, "cluster", 0.25, 0.1, 0.5, 9)],
    schema={
        "layer": pl.Int16, "of": pl.String, "moved": pl.Float64, "ci_low": pl.Float64, "ci_high": pl.Float64,
        "n": pl.Int32,
    },
    orient="row",
)  # fmt: skip
MOVES = pl.DataFrame(
    {"layer": [None] * 3, "of": ["cluster"] * 3, "before": ["0", "0", "10"], "after": ["0", "10", "10"],
     "share": [0.75, 0.25, 1.0], "ci_low": [0.65, 0.15, None], "ci_high": [0.85, 0.35, None], "count": [3, 1, 4],
     "n": [4, 4, 1]}
)  # fmt: skip


def test_moved_maps_are_told_with_their_interval_and_the_layer_that_moved_most() -> None:
    (sentence,) = transitions.words({"moved": MOVED})
    assert sentence == (
        "12.5\u202f% of the maps are in another cluster than in the baseline (CI 5.00 to 25.00 %, n = 9 samples); "
        "most in layer 1, 25\u202f%."
    )
    assert transitions.words({}) == [] and transitions.draw({}) == []


def test_the_matrix_shows_the_share_of_each_move() -> None:
    figure = transition_maps(MOVES)
    assert figure is not None
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["75.0", "65.0–85.0", "25.0", "15.0–35.0", "100.0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "10"]
    assert transition_maps(MOVES.clear()) is None
    (table,) = transitions.tables({"transitions": MOVES})
    assert table.columns[:4] == ("cluster in the baseline", "now", "share, %", "CI")
    assert table.rows == (
        ("0", "0", "75", "65 to 85", "3", "4"),
        ("0", "10", "25", "15 to 35", "1", "4"),
        ("10", "10", "100.0", "–", "4", "1"),
    )


def test_clusters_that_other_seeds_do_not_find_again_are_called_so() -> None:
    choice = {"k": [2, 3], "chosen": [False, True], "seeds_mean": [1.0, 0.95], "seeds_min": [1.0, 0.9]}
    for halves, told in ((0.85, "the clusters do not depend on"), (0.5, "the clusters depend on")):
        frame = pl.DataFrame({**choice, "halves_mean": [1.0, halves], "halves_min": [1.0, halves - 0.1]})
        (sentence,) = clustering.words({"choice": frame})
        assert sentence.startswith("With 3 clusters") and told in sentence
    agreement = pl.DataFrame(
        {
            "cluster": [0, 0, 1],
            "pattern_type": ["sink", "local", "local"],
            "share": [0.75, 0.25, 1.0],
            "ci_low": [0.7, 0.2, None],
            "ci_high": [0.8, 0.3, None],
            "count": [3, 1, 2],
        }
    )
    (table,) = clustering.tables({"agreement": agreement})
    assert table.columns == ("cluster", "sink", "local", "rows")
    assert table.rows == (("0", "75.0 (70.0 to 80.0)", "25.0 (20.0 to 30.0)", "4"), ("1", "–", "100.0 (–)", "2"))


def test_what_the_rules_say_of_all_maps_has_its_interval() -> None:
    types = pl.DataFrame(
        {"layer": [None, None, None, 0], "pattern_type": ["local", "sink", "self", "sink"],
         "share": [0.25, 0.75, 0.0, 1.0], "ci_low": [0.2, 0.7, 0.0, 1.0], "ci_high": [0.3, 0.8, 0.0, 1.0],
         "count": [1, 3, 0, 2], "n": [9, 9, 9, 5]}
    )  # fmt: skip
    (table,) = clustering.tables({"pattern_types": types})
    assert table.rows == (("sink", "75.0", "70.0 to 80.0", "3", "9"), ("local", "25.0", "20.0 to 30.0", "1", "9"))
    agreement = {"metric": ["rule_agreement"], "value": [0.4], "ci_low": [0.3], "ci_high": [0.5], "n": [9]}
    (sentence,) = clustering.words({"metrics": pl.DataFrame(agreement)})
    assert sentence.endswith("index of 0.400 (CI 0.300 to 0.500, n = 9 samples).")


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
    assert np.ma.getmaskarray(np.ma.masked_invalid(cells)).sum(axis=1).tolist() == [24, 0]
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
    assert [axes.get_images()[0].get_array()[0, 3] for axes in (dense, sparse, difference)] == [0.75, 1.0, 0.25]
    assert [axes.get_images()[0].get_array()[0, 40] for axes in (dense, sparse, difference)] == [0.25, 0.0, -0.25]
    assert dense.get_ylabel() == "loses most: 25.0%\nlayer 1 head 2\nsample 7, query"
    frames = {"examples": found, "example_maps": maps}
    assert examples_panel.words(frames) == [
        "Of 1 map with something left out, the one that loses most loses 25\u202f% of its dense attention."
    ]
    ((_, title, _),) = examples_panel.draw(frames)
    assert title == "Sparse against dense attention"
    assert sparse_against_dense(found.clear(), maps.clear()) is None and examples_panel.draw({}) == []
