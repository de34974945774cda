"""How stable the clusters are is told as the frames have it."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.clustering import panel as clustering


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
    assert table.columns == ("cluster", "sink", "local", "maps")
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
