"""What is said and drawn of the attention that is kept is what the metrics hold, and no more."""

from __future__ import annotations

import polars as pl
import pytest

from indexscope.analysis.distribution.answer import ANSWER
from indexscope.analysis.distribution.panel import HEADS, SCORES, WORST, across
from tests.report.fixtures import Kind, report
from tests.report.studies import Value, around, rings, study


def recalls(*by_layer: float, half: float = 0.01) -> list[Value]:
    """Recall of a model with the best choice 0.05 above it and a random one at 0.3."""
    layers = list(enumerate(by_layer))
    mean = sum(by_layer) / len(by_layer)
    return [
        value
        for layer, recall in [(None, mean), *layers]
        for value in (
            around("selection_recall", layer, recall, half),
            around("oracle_recall", layer, recall + 0.05, half),
            around("random_recall", layer, 0.3, half),
        )
    ]


def said(**models: list[Value]) -> list[str]:
    return list(ANSWER.say(study({name: {} for name in models}, models)))


def test_recall_stands_between_a_random_and_the_best_choice_and_the_worst_layer_is_named() -> None:
    kept, worst = said(base=recalls(0.9, 0.5, 0.8), light=recalls(0.9, 0.4, 0.8))
    assert kept == (
        "The selection keeps 73.3\u202f% (72.3 to 74.3) of the dense attention in base and 70.0\u202f% (69.0 to 71.0) "
        "in light; a random choice of as many keys would keep 30.0\u202f%, the best 78.3\u202f% and 75.0\u202f%."
    )
    assert worst == (
        "Layer 1 loses most: it keeps 50.0\u202f% (49.0 to 51.0) in base and 40.0\u202f% (39.0 to 41.0) in light; the "
        "best choice of as many keys would keep 55.0\u202f% and 45.0\u202f% there."
    )


def test_models_that_lose_most_in_different_layers_are_named_with_them() -> None:
    _, *worst = said(base=recalls(0.9, 0.5, 0.8), light=recalls(0.9, 0.7, 0.4))
    assert [text.split(":")[0] for text in worst] == ["Layer 1 of base loses most", "Layer 2 of light loses most"]


@pytest.mark.parametrize(
    ("layers", "doubt"),
    [
        ((0.9, 0.5, 0.515), "by estimate, not certainly more than layer 2:"),
        ((0.51, 0.5, 0.515), "by estimate, not certainly more than 2 other layers:"),
        ((0.9, 0.5, 0.8), "most:"),
    ],
)
def test_a_layer_that_intervals_do_not_tell_from_others_is_worst_by_estimate(
    layers: tuple[float, ...], doubt: str
) -> None:
    _, worst = said(base=recalls(*layers))
    assert doubt in worst and "base" not in worst


def test_without_intervals_nothing_is_certain() -> None:
    bare = [("selection_recall", layer, value, None, None) for layer, value in ((None, 0.7), (0, 0.9), (1, 0.5))]
    kept, worst = said(base=bare)
    assert kept == "The selection keeps 70\u202f% of the dense attention."
    assert worst == "Layer 1 loses most by estimate: it keeps 50\u202f%."


def test_nothing_is_said_and_drawn_of_a_model_without_an_indexer() -> None:
    given = report(candidates=(), dense=("baseline",))
    assert list(ANSWER.say(given)) == [] and across(given)[0].figure is None
    both = report(candidates=("light",), dense=("baseline",))
    assert all("baseline" not in text and "light" in text for text in ANSWER.say(both))


def test_of_twenty_candidates_the_baseline_and_the_best_are_named() -> None:
    given = report(candidates=tuple(f"c{number}" for number in range(20)))
    for text in ANSWER.say(given):
        assert len({word.strip(".,;") for word in text.split() if word.startswith("c") and word[1:2].isdigit()}) == 1


def test_a_model_that_leaks_is_called_so() -> None:
    given = study({"base": {}, "light": {}}, {"base": recalls(0.9, 0.5), "light": recalls(0.9, 0.4)}, ["light"])
    assert all("light (leaks)" in text for text in ANSWER.say(given.for_readers()))


def test_all_models_are_in_one_panel_with_the_bounds_of_the_first_and_the_worst_layers_ringed() -> None:
    values = {"base": recalls(0.9, 0.5, 0.8), "light": recalls(0.95, 0.6, 0.4)}
    figure = across(study({name: {} for name in values}, values))[0].figure
    (axes,) = figure.axes
    rows = figure.data
    assert rows.filter(pl.col("series") == "light")["value"].to_list() == pytest.approx([0.95, 0.6, 0.4])
    assert rows.filter(pl.col("series") == "best choice (base)")["value"].to_list() == pytest.approx([0.95, 0.55, 0.85])
    assert set(rows["series"]) == {"base", "light", "best choice (base)", "random choice (base)"}
    assert rings(axes) == [(1, 0.5), (2, 0.4)]
    assert axes.get_xlabel() == "layer" and axes.get_ylabel() == "attention kept (share)"


def test_the_heads_of_all_layers_are_a_map_and_a_metric_of_its_own_each() -> None:
    page = report(layers=3, heads=4).models[0]
    frames = page.analyses["distribution"]
    maps = [chart for chart in HEADS.charts(frames) if chart.kind == "map"]
    assert [chart.title.split(": ")[1] for chart in maps] == ["normalised entropy", "head recall"]
    own = frames["by_head"].filter(pl.col("metric") == "head_recall").sort("layer", "head")
    assert maps[1].frame["value"].to_list() == own["value"].to_list()
    assert (maps[1].x, maps[1].y, maps[1].shade) == ("layer", "head", "value")


def test_the_metrics_by_position_are_charts_of_the_whole_model() -> None:
    frames = report().models[0].analyses["distribution"]
    shares, loss = (chart for chart in HEADS.charts(frames) if chart.title.startswith("By position"))
    own = frames["by_bucket"].filter(pl.col("layer").is_null() & (pl.col("metric") == "nll")).sort("bucket")
    assert loss.frame["value"].to_list() == own["value"].to_list() and "layer" not in shares.frame.columns
    assert loss.frame["from"].to_list()[:3] == ["0", "1", "3"]
    places = [int(first) for first in shares.frame["from"].unique(maintain_order=True)]
    assert places == sorted(places)  # recall begins later than entropy, and the page has places in order of rows


def test_score_bands_run_from_the_fifth_to_the_ninety_fifth_quantile() -> None:
    frames = report(layers=3).models[0].analyses["distribution"]
    (bands,) = (chart for chart in SCORES.charts(frames) if chart.kind == "line")
    row = bands.frame.filter((pl.col("group") == "selected") & (pl.col("at") == 2)).row(0, named=True)
    own = frames["score_quantiles"].filter((pl.col("group") == "selected") & (pl.col("layer") == 2))
    levels = dict(own.select("quantile", "value").iter_rows())
    assert (row["ci_low"], row["value"], row["ci_high"]) == (levels[0.05], levels[0.5], levels[0.95])
    assert SCORES.charts(report(Kind(layers=1)).models[0].analyses["distribution"])[1:] == []


def test_quantiles_of_single_queries_go_by_position_and_by_layer() -> None:
    rows = [
        (layer, bucket, level, level / 2, 9)
        for layer, bucket in ((None, None), (None, 6), (None, 7), (0, None), (1, None))
        for level in (0.0, 0.01, 0.1, 0.25, 0.5)
    ]
    quantiles = pl.DataFrame(rows, schema=["layer", "bucket", "quantile", "value", "count"], orient="row")
    by_position, by_layer = WORST.charts({"recall_quantiles": quantiles})
    assert by_position.frame["from"].to_list() == ["63", "127"] * 4
    assert by_layer.frame["of queries"].unique(maintain_order=True).to_list() == [
        "median",
        "10\u202f% below",
        "1\u202f% below",
        "lowest of all",
    ]
    assert by_layer.frame["value"].to_list() == [0.25, 0.25, 0.05, 0.05, 0.005, 0.005, 0.0, 0.0]
