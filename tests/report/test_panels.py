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
from indexscope.analysis.report.panel import Answer, Chart, Drawn, Frames, Panel, Passage, TextTable, Token
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
    chapter="costs",
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


def say(given: ReportInput) -> list[str]:
    return [f"The tide of {name} is high & dry." for name in given.frames("tides", "heights")]


ANSWERS = (
    *(Answer("costs", order, say) for order in range(2)),
    Answer("costs", 3, lambda given: ["It ebbs."]),
    Answer("costs", 4, lambda given: ["Nobody reads a fourth sentence."]),
    Answer("misses", 5, lambda given: []),
)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> ReportInput:
    monkeypatch.setattr(panelled, "panels", lambda: (PANEL,))
    monkeypatch.setattr(panelled, "declared_answers", lambda: ANSWERS)
    made = report(layers=2, heads=2)
    frame = pl.DataFrame({"model": "light", "layer": [0, 1], "hour": [1, 1], "height": [4.25, 3.5]})
    light = replace(made.models[1], analyses={"tides": {"heights": frame, "lows": frame.clear()}})
    return replace(made, models=[made.models[0], light])


def test_a_made_up_panel_is_in_every_part_of_the_page(given: ReportInput) -> None:
    html = render(given)["report.html"]
    chapter = html[html.index('<section id="costs"') : html.index('<section id="numbers"')]
    assert chapter.count("<summary>Tides of the attention</summary>") == 1
    assert chapter.count('<p class="meta">How high it comes.</p>') == 1
    assert "<li>It comes to 4.25 &amp; goes.</li>" in chapter and "<caption>Heights</caption>" in chapter
    assert '<figure id="figure-study-tides">' in chapter and "tides of light</text>" in chapter
    assert "up to 4.25</text>" not in html, "figures of one model are drawn when they are asked for"
    assert "<bdi>sand&lt;</bdi>" in html
    explorer = explorer_data(given, given.models[1])
    assert explorer is not None and explorer["excerpt"]["columns"]["token"]["texts"] == ["shell"]
    assert explorer["excerpt"]["chapter"] == "costs"
    (chart,) = explorer["charts"]
    assert (chart["title"], chart["columns"]["height"]) == ("Tide of the layer", [4.25, 3.5])


def test_a_question_opens_with_its_first_three_sentences(given: ReportInput) -> None:
    html = render(given)["report.html"]
    told = "The tide of light is high &amp; dry."
    assert f'<p class="answer">{told} {told} It ebbs.</p>' in html
    assert html.count('class="answer"') == 1 and "fourth" not in html


def test_a_made_up_panel_is_in_the_other_files(given: ReportInput) -> None:
    files = render(given)
    assert json.loads(files["report.json"])["heights"] == [
        {"model": "light", "height": 4.25, "leaks": False},
        {"model": "light", "height": 3.5, "leaks": False},
    ]
    assert "<summary>light: tides</summary>\n\n| hour | height |" in files["report.md"]
