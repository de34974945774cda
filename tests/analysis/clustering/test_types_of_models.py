"""Which patterns attention maps have is told and drawn of all models as the frames have it."""

from __future__ import annotations

import polars as pl
import pytest

from indexscope.analysis.clustering.answer import ANSWER
from indexscope.analysis.clustering.panel import CLUSTERS, across
from indexscope.analysis.report.inputs import ReportInput
from tests.report.fixtures import report
from tests.report.studies import study


def types(**shares: float) -> pl.DataFrame:
    """Two layers with the same shares, each known to 2 %."""
    rows = [
        (layer, kind.replace("_", "-"), share, share - 0.02, share + 0.02, round(100 * share), 64)
        for layer in (None, 0, 1)
        for kind, share in shares.items()
    ]
    schema = {"layer": pl.Int16, "pattern_type": pl.String, "share": pl.Float64, "ci_low": pl.Float64}
    return pl.DataFrame(rows, schema=schema | {"ci_high": pl.Float64, "count": pl.Int64, "n": pl.Int32}, orient="row")


def given(**models: pl.DataFrame) -> ReportInput:
    return study({name: {"clustering": {"pattern_types": frame}} for name, frame in models.items()})


def test_the_most_frequent_types_are_named_and_repeated_only_where_they_differ() -> None:
    base = types(local=0.5, sink=0.3, mixed=0.2)
    assert ANSWER.say(given(base=base, light=types(local=0.52, sink=0.3, mixed=0.18))) == [
        "The most frequent patterns of attention maps are local with 50.0\u202f% (48.0 to 52.0) and sink with "
        "30.0\u202f% (28.0 to 32.0) in base; the same in light."
    ]
    (other,) = ANSWER.say(given(base=base, light=types(local=0.2, sink=0.3, previous_token=0.5)))
    assert "in base; previous-token with 50.0\u202f% (48.0 to 52.0) and sink with 30.0" in other


def test_types_that_intervals_do_not_tell_apart_are_among_the_most_frequent() -> None:
    (close,) = ANSWER.say(given(base=types(local=0.5, sink=0.26, mixed=0.24)))
    assert close.startswith("Among the most frequent patterns") and "base" not in close
    (unnamed,) = ANSWER.say(given(base=types(mixed=0.6, sink=0.3, local=0.1)))
    assert "mixed (no rule fits) with 60" in unnamed


def test_nothing_is_said_without_types() -> None:
    assert ANSWER.say(given(base=types(local=0.0))) == () and ANSWER.say(study({"base": {}})) == ()


def test_each_model_has_a_panel_whose_columns_are_the_shares_of_its_layers() -> None:
    asked = given(base=types(local=0.5, sink=0.5), light=types(local=0.25, sink=0.75))
    figure = across(asked)[0].figure
    rows = figure.data.filter((pl.col("panel") == "light") & (pl.col("series") == "sink"))
    assert rows.select("layer", "share").rows() == [(0, 0.75), (1, 0.75)]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["base (n = 64 samples)", "light (n = 64 samples)"]
    local, sink = (patch.get_path() for patch in reversed(figure.axes[1].patches))
    assert (local.get_extents().y0, local.get_extents().y1) == (75, 100)
    assert (sink.get_extents().y0, sink.get_extents().y1) == (0, 75)


@pytest.mark.parametrize(("candidates", "panels"), [(0, 1), (1, 2), (2, 3), (3, 4), (20, 4)])
def test_there_are_at_most_four_panels_and_no_empty_one(candidates: int, panels: int) -> None:
    (picture,) = across(report(candidates=tuple(f"c{number}" for number in range(candidates))))
    assert len(picture.figure.axes) == panels
    assert ("4 of 21 models are shown" in picture.caption) == (candidates == 20)


def test_a_kind_has_one_entry_in_the_legend_of_all_models() -> None:
    figure = across(given(base=types(local=0.5, sink=0.5), light=types(local=0.5, block=0.5)))[0].figure
    (legend,) = figure.legends
    assert sorted(text.get_text() for text in legend.get_texts()) == ["block", "local", "sink"]


def test_the_centres_are_coloured_by_their_difference_from_the_mean_of_all_maps() -> None:
    clusters = pl.DataFrame(
        {"cluster": [0, 1], "name": ["a", "b"], "size": [30, 10], "share": [0.75, 0.25], "ci_low": [0.7, 0.2],
         "ci_high": [0.8, 0.3], "n": [9, 9], "local_mass": [0.4, 0.8], "reach": [10.0, 50.0]}
    )  # fmt: skip
    (chart,) = (chart for chart in CLUSTERS.charts({"clusters": clusters}) if chart.kind == "map")
    cells = {(row["feature"], row["cluster"]): (row["mean"], row["shade"]) for row in chart.frame.to_dicts()}
    assert cells["local mass", 0] == pytest.approx((0.4, -0.1)) and cells["local mass", 1] == pytest.approx((0.8, 0.3))
    assert cells["reach", 1] == pytest.approx((50.0, 0.5)) and chart.middle == 0
