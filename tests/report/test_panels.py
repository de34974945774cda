"""A question that nobody has heard of is shown by its panel alone."""

from __future__ import annotations

import json
from dataclasses import replace

import polars as pl
import pytest
from matplotlib.figure import Figure

from indexscope.analysis.plots.style import new_figure
from indexscope.analysis.report import panelled, render
from indexscope.analysis.report.explorer import explorer_data
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, Passage, TextTable, Token
from tests.report.fixtures import report


def figure(words: str) -> Figure:
    made = new_figure(2.0)
    made.subplots().set_title(words)
    return made


def across(given: ReportInput) -> list[Drawn]:
    tides = given.frames("tides", "heights")
    return [Drawn("tides", "All tides", "Of every model.", figure(f"tides of {' and '.join(tides)}"))]


def draw(frames: Frames) -> list[Drawn]:
    highest = frames["heights"]["height"].max()
    return [Drawn("tide", "The tide", "Of one model.", figure(f"up to {highest}")), Drawn("ebb", "Ebb", "", None)]


PANEL = Panel(
    analysis="tides",
    order=1,
    title="Tides of the attention",
    about="How high it comes.",
    words=lambda frames: [f"It comes to {frames['heights']['height'].max()} & goes."],
    draw=draw,
    tables=lambda frames: [TextTable("Heights", ("layer", "height"), (("0", "4.25"),))],
    passages=lambda frames: [Passage("A shore", (Token("sand<"),))],
    charts=lambda frames: [Chart("Tide of the layer", "", "bars", frames["heights"], x="hour", y="height")],
    excerpt=lambda frames: frames["heights"].select("layer", token=pl.lit("shell")),
    brief=lambda frames: TextTable("tides", ("hour", "height"), (("1", "4.25"),)),
    across=across,
    json={"heights": ("model", "height")},
)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> ReportInput:
    monkeypatch.setattr(panelled, "panels", lambda: (PANEL,))
    made = report(layers=2, heads=2)
    frame = pl.DataFrame({"model": "light", "layer": [0, 1], "hour": [1, 1], "height": [4.25, 3.5]})
    light = replace(made.models[1], analyses={"tides": {"heights": frame, "lows": frame.clear()}})
    return replace(made, models=[made.models[0], light])


def test_a_made_up_panel_is_in_every_part_of_the_page(given: ReportInput) -> None:
    html = render(given)["report.html"]
    assert html.count("<h3>Tides of the attention</h3>") == 1 and html.count("<p>How high it comes.</p>") == 1
    assert "<li>It comes to 4.25 &amp; goes.</li>" in html and "<caption>Heights</caption>" in html
    assert '<figure id="figure-study-tides">' in html and "tides of light</text>" in html
    assert '<figure id="figure-model-2-tide">' in html and "up to 4.25</text>" in html
    assert "figure-model-1-tide" not in html and "figure-model-2-ebb" not in html
    assert html.index("figure-study-tides") < html.index('id="model-1"') < html.index("figure-model-2-tide")
    assert "<bdi>sand&lt;</bdi>" in html
    explorer = explorer_data(given, given.models[1])
    assert explorer is not None and explorer["excerpt"]["token"]["texts"] == ["shell"]
    (chart,) = explorer["charts"]
    assert (chart["title"], chart["columns"]["height"]) == ("Tide of the layer", [4.25, 3.5])


def test_a_made_up_panel_is_in_the_other_files(given: ReportInput) -> None:
    files = render(given)
    assert json.loads(files["report.json"])["heights"] == [
        {"model": "light", "height": 4.25, "leaks": False},
        {"model": "light", "height": 3.5, "leaks": False},
    ]
    assert "<summary>light: tides</summary>\n\n| hour | height |" in files["report.md"]
