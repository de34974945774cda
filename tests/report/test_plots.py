"""Figures: real text, own ids, the same bytes, and nothing left behind in matplotlib."""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ElementTree
from typing import Any

import matplotlib
import polars as pl
import pytest

from indexscope.analysis.candidates.forest_figures import forest, relative
from indexscope.analysis.candidates.key_figures import key_differences
from indexscope.analysis.candidates.tradeoff_figures import quality_against_cost
from indexscope.analysis.distribution.figures import recall_by_layer
from indexscope.analysis.efficiency.figures import cost_by_length
from indexscope.analysis.plots.frames import spread
from indexscope.analysis.plots.style import look, short_labels
from indexscope.analysis.plots.svg import to_svg
from indexscope.analysis.positional_bias.figures import lift_curves, lift_map
from tests.report.fixtures import report


def recall_svg(identifier: str = "a", **changes: Any) -> str:
    given = report(**changes)
    figure = recall_by_layer(given.metrics, [page.name for page in given.models])
    assert figure is not None
    return to_svg(figure, identifier, "Recall", "What it shows", standalone=True)


def test_an_svg_is_well_formed_named_and_has_no_address_but_its_namespace() -> None:
    svg = recall_svg()
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("role") == "img"
    assert re.findall(r"https?://[^\"]+", svg) == ["http://www.w3.org/2000/svg"]
    assert "<style" not in svg and "<metadata" not in svg and "DOCTYPE" not in svg


def test_ids_are_used_and_belong_to_the_figure() -> None:
    svg = recall_svg("fig-7")
    ids = re.findall(r' id="([^"]+)"', svg)
    assert ids and all(name.startswith("fig-7-") for name in ids) and len(ids) == len(set(ids))
    assert set(re.findall(r"#(fig-7-[\w-]+)", svg)) | {"fig-7-title"} == set(ids)


def test_the_same_frames_give_the_same_bytes() -> None:
    assert recall_svg() == recall_svg()


def test_names_are_drawn_as_text_whatever_they_hold() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = recall_svg(baseline='<b id="#q">$\\frac{1}$', candidates=("🚀",))
    texts = [
        "".join(element.itertext()) for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")
    ]
    assert any("$\\frac" in text for text in texts) and any("🚀" in text for text in texts)


def test_axes_carry_units_and_sample_counts() -> None:
    given = report()
    svg = recall_svg()
    assert "n = 64 samples" in svg and "(share)" in svg and ">layer<" in svg
    figure = forest(given.comparisons, ["light"])
    assert figure is not None and "n = 64 samples" in to_svg(figure, "f", "t")


def test_matplotlib_is_left_as_it_was_found() -> None:
    before = dict(matplotlib.rcParams)
    recall_svg()
    assert dict(matplotlib.rcParams) == before


def test_the_style_of_a_user_does_not_leak_into_figures() -> None:
    usual = recall_svg()
    with matplotlib.rc_context({"lines.linewidth": 9.0, "axes.facecolor": "black", "font.size": 30.0}):
        assert recall_svg() == usual


def test_series_differ_without_colour() -> None:
    looks = [(look(index).marker, str(look(index).line)) for index in range(5)]
    assert len(set(looks)) == 5
    assert len({look(index).marker for index in range(7)}) == 7
    assert len({(look(index).colour, look(index).marker) for index in range(40)}) == 40


def test_labels_are_short_and_distinct() -> None:
    labels = short_labels(["x" * 90 + "1", "x" * 90 + "2", "b"])
    assert len(set(labels.values())) == 3 and all(len(label) <= 26 for label in labels.values())


def test_relative_differences_are_per_cent_of_the_baseline() -> None:
    row = {
        "candidate": "c",
        "metric": "m",
        "layer": None,
        "unit": "nats",
        "baseline": -2.0,
        "value": -1.9,
        "difference": 0.1,
        "ci_low": 0.05,
        "ci_high": 0.2,
        "n": 3,
        "better": None,
        "verdict": None,
    }
    frame = pl.DataFrame([row, {**row, "baseline": 0.0}, {**row, "ci_low": None}, {**row, "unit": "ms"}])
    found = relative(frame)
    assert found.select("low", "centre", "high").rows() == [pytest.approx((2.5, 5.0, 10.0))]


def test_spread_keeps_first_and_last() -> None:
    assert spread(list(range(61)), 6) == [0, 12, 24, 36, 48, 60]
    assert spread([3, 1, 3], 6) == [1, 3]


def test_nothing_to_draw_is_no_figure() -> None:
    given = report(candidates=(), dense=("baseline",))
    page = given.models[0]
    assert recall_by_layer(given.metrics, [page.name]) is None
    assert forest(given.comparisons, []) is None
    assert quality_against_cost(given.comparisons, given.metrics, {page.name: look(0)}) is None
    assert key_differences(given.comparisons, {}) is None
    assert lift_map(page.analyses["positional_bias"]["lift"]) is None
    assert lift_curves({page.name: page.analyses["positional_bias"]["lift"]}, [page.name]) is not None
    assert cost_by_length({}, {}, []) is None
