"""report.html asks nothing of the network, shows foreign text as text, and is complete at any size."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from markupsafe import escape

from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.report import panelled, render
from indexscope.analysis.report.chapters import CHAPTERS
from indexscope.analysis.report.explorer import explorer_data
from indexscope.analysis.report.overlaid import MOST
from indexscope.analysis.report.panelled import study_pictures
from indexscope.analysis.report.ranking import ranking
from tests.report.fixtures import Kind, bare, rendered, report

HOSTILE = (
    "<script>alert(1)</script>",
    "x" * 400,
    '🚀 "quoted" $x^2$',
    "עברית \u202e نموذج",
    "a|b`c`<img src=x onerror=alert(1)>",
)
ADDRESS = re.compile(
    r"""(?:https?:)?//[a-z0-9.-]+\.[a-z]{2}|\b(?:src|href|action|data|poster)\s*=\s*["'](?!#|data:image/png)""", re.I
)
FETCH = re.compile(
    r"@import|(?<![a-z])url\((?!#)|<(?:link|iframe|object|embed|img|base|form)\b|\bfetch\(|XMLHttpRequest|WebSocket",
    re.I,
)


class Outline(HTMLParser):
    """Tags that stand open, ids, and the text of chosen elements."""

    VOID = frozenset({"meta", "br", "link", "img", "hr", "input", "wbr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.tags: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        if named.get("id"):
            self.ids.append(str(named["id"]))
        for key in ("href", "aria-labelledby"):
            if named.get(key):
                self.targets.append(str(named[key]).removeprefix("#"))
        if any(key.startswith("on") for key in named):
            self.wrong.append(f"{tag} has an event handler")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes something else")


def outline(html: str) -> Outline:
    parser = Outline()
    parser.feed(html)
    return parser


USUAL = Kind(panels=True)
CASES: dict[str, Kind] = {
    "one candidate": USUAL,
    "three candidates": Kind(layers=2, candidates=("a", "b", "c")),
    "no candidate": Kind(layers=2, candidates=()),
    "dense alone": Kind(layers=2, candidates=(), dense=("baseline",)),
    "dense candidate": Kind(layers=2, dense=("light",)),
    "dense baseline": Kind(layers=2, dense=("baseline",)),
    "hostile names": Kind(layers=2, heads=2, baseline=HOSTILE[0], candidates=HOSTILE[1:]),
    "one layer, one head": Kind(layers=1, heads=1),
}


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_whole_and_asks_nothing_of_the_network(case: str) -> None:
    html = rendered(CASES[case])["report.html"]
    found = outline(html)
    assert found.wrong == [] and found.open == []
    assert len(found.ids) == len(set(found.ids))
    data = [target for target in found.targets if not target.startswith("data:image/png;base64,")]
    assert set(data) <= set(found.ids)
    assert "http://" not in html and "https://" not in html
    assert not FETCH.search(html) and not ADDRESS.search(html)
    assert "DOCTYPE svg" not in html and "<metadata" not in html
    assert found.tags.count("script") == 2 and html.count('<script type="text/plain" id="data">') == 1
    shown = re.sub(r"<svg.*?</svg>|<style.*?</style>|<script.*?</script>", "", html, flags=re.S)
    assert not re.search(r">\s*(nan|None|null|inf|-inf|Infinity)\s*<", shown, re.I)


def test_tables_have_captions_and_scopes() -> None:
    html = rendered(USUAL)["report.html"]
    assert html.count("<table") == html.count("<caption") > 5
    assert not re.search(r"<th(?![^>]*scope=)[ >]", html)
    assert html.count("<figure ") == html.count("<figcaption") == html.count('role="img"')


@pytest.mark.parametrize("name", HOSTILE)
def test_foreign_text_is_shown_and_never_run(name: str) -> None:
    given = bare(report(baseline=name))
    given = replace(
        given,
        study=name,
        gates=pl.DataFrame({"name": [name], "rule": [name], "value": [1.0], "passed": [False]}),
        provenance={name: {name: name}, "list": [name]},
    )
    files = render(given)
    assert "<script>alert" not in files["report.html"] and "<img" not in files["report.html"]
    assert "<script" not in files["report.md"] and "<img" not in files["report.md"]
    if name == HOSTILE[0]:
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in files["report.html"]
    lines = files["report.md"].splitlines()
    bars = [len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0 for line in lines]
    assert sum(map(bool, bars)) > 20
    assert all(one == other for one, other in pairwise(bars) if one and other), "every row has its table's columns"


def test_the_page_answers_questions_in_their_order_and_numbers_come_last() -> None:
    html = rendered(USUAL)["report.html"]
    sections = re.findall(r'<section id="([^"]+)"', html)
    assert sections == [*(chapter.key for chapter in CHAPTERS), "numbers", "definitions", "provenance"]
    linked = re.findall(r'<a href="#([^"]+)">', html[html.index("<nav") : html.index("</nav>")])
    assert linked == sections


def test_a_study_of_dense_models_alone_asks_what_they_attend_to() -> None:
    titles = re.findall(r'<h2 id="[a-z]+-title">([^<]*\?)</h2>', rendered(CASES["dense alone"])["report.html"])
    assert titles[:2] == ["What does it attend to?", "What would a selection miss?"]
    titles = re.findall(r'<h2 id="[a-z]+-title">([^<]*\?)</h2>', rendered(CASES["dense candidate"])["report.html"])
    assert titles[:2] == ["What does it select?", "What does it miss?"]


def test_a_study_without_a_candidate_asks_nothing_about_changes() -> None:
    html = render(bare(report(layers=2, candidates=())))["report.html"]
    assert '<section id="changed"' not in html and 'href="#changed"' not in html


@pytest.mark.parametrize("case", CASES)
def test_no_study_shows_more_than_sixteen_figures(case: str) -> None:
    html = rendered(CASES[case])["report.html"]
    assert 0 < html.count("<figure ") <= 16
    for chapter in re.split(r'<section id="', html)[2:]:  # all but the first figure of a question are folded
        shown = re.sub(r"<details.*?</details>", "", chapter, flags=re.S)
        assert shown.count("<figure ") <= 1


def test_of_too_many_figures_the_last_of_the_longest_chapters_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    given = report(layers=2, candidates=("a", "b"))
    whole = [(one.chapter, one.identifier) for one in study_pictures(given)]
    chapters = dict.fromkeys(chapter for chapter, _ in whole)
    most = len(chapters) + 2
    assert len(whole) > most
    monkeypatch.setattr(panelled, "FIGURES", most)
    few = [(one.chapter, one.identifier) for one in study_pictures(given)]
    assert len(few) == most and dict.fromkeys(chapter for chapter, _ in few) == chapters
    for chapter in chapters:
        kept, all_of_it = ([name for of, name in found if of == chapter] for found in (few, whole))
        assert kept == all_of_it[: len(kept)] and len(kept) <= 3


@pytest.mark.parametrize("case", CASES)
def test_no_figure_shows_markup_for_text(case: str) -> None:
    assert "mathdefault" not in rendered(CASES[case])["report.html"]


def test_many_candidates_are_ranked_and_the_best_shown_in_full() -> None:
    given = report(layers=2, candidates=tuple(f"candidate {place}" for place in range(20)))
    html = render(given)["report.html"]
    first = ranking(given)["candidate"].to_list()[: MOST - 1]
    detailed = re.findall(r"<summary>Every metric of <bdi>(.*?)</bdi> beside the baseline", html)
    assert sorted(detailed) == sorted(first)
    assert html.count("<figure ") <= 16
    table = html[html.index('<table id="ranking">') : html.index("</table>", html.index('<table id="ranking">'))]
    assert all(f"<bdi>candidate {place}</bdi>" in table for place in range(20))
    assert "Of the candidates, 15 that rank below those shown here" in html
    rows = data(html)["figures"]["figure-study-key-trends"]["parts"]
    assert len(rows) == 6 and all(len(unpacked(part["columns"]["candidate"])) == 20 for part in rows)
    assert "study-key-numbers" not in html
    assert data(html)["chosen"] == f"model-{given.names.index(first[0]) + 1}"


def test_values_of_the_comparison_are_the_frames_values() -> None:
    given = report(USUAL)
    html = rendered(USUAL)["report.html"]
    row = given.comparisons.filter((pl.col("metric") == "selection_recall") & pl.col("layer").is_null()).row(
        0, named=True
    )
    table = html[html.index('id="comparison-1"') :]
    line = re.search(r'<tr><th scope="row" id="comparison-1-selection_recall">.*?</tr>', table, re.S)
    assert line is not None
    for value in (row["baseline"], row["value"], row["difference"], row["ci_low"], row["ci_high"]):
        assert f"{abs(value):.3f}" in line[0]
    assert f"<td>{row['n']}</td>" in line[0]


def test_metrics_that_only_one_model_has_are_named() -> None:
    html = rendered(CASES["dense candidate"])["report.html"]
    note = re.search(r"Measured for the baseline only, so not compared: ([^<]*)", html)
    assert note is not None and "selection_recall" in note[1] and "nll" not in note[1].split(", ")


def data(html: str) -> dict[str, Any]:
    """What the page's script reads."""
    found = re.search(r'<script type="text/plain" id="data">(.*?)</script>', html, re.S)
    assert found is not None
    unpacked: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(found[1])))
    return unpacked


def unpacked(column: dict[str, Any]) -> list[str]:
    """A column of texts as the page packs it."""
    at = column["at"] if isinstance(column["at"], list) else column["at"]["runs"]
    places = (
        at
        if at is column["at"]
        else [at[run] + at[run + 1] * n for run in range(0, len(at), 3) for n in range(at[run + 2])]
    )
    return [column["texts"][place] for place in places]


def test_warnings_of_many_models_are_named_together() -> None:
    given = report(layers=2, candidates=tuple(f"candidate {place}" for place in range(20)))
    html = render(bare(given))["report.html"]
    badges = re.findall(r'<span class="badge failed">! (.*?): <bdi>(.*?)</bdi>', html)
    assert badges[0] == ("indexer hardly in effect", "candidate 8, candidate 9 and 10 others")
    assert len(badges) == len({kind for kind, _ in badges})


def test_every_figure_comes_with_its_data() -> None:
    html = rendered(USUAL)["report.html"]
    figures = re.findall(r'<figure id="([^"]+)"', html)
    assert len(set(figures)) == len(figures) > 5 and set(figures) == set(data(html)["figures"])
    for rows in data(html)["figures"].values():
        assert all(part["columns"] for part in rows["parts"])


def test_every_metric_leads_to_its_definition_and_back() -> None:
    html = rendered(USUAL)["report.html"]
    definition = re.search(r'<div id="def-selection_recall".*?</div>', html, re.S)
    assert definition is not None
    entry = REGISTRY["selection_recall"]
    for text in (entry.formula, entry.range, entry.misleads):
        assert text and str(escape(text)) in definition[0]
    assert html.count('href="#def-selection_recall"') >= 5
    for use in ("key", "comparison-1", "all"):
        assert f'href="#{use}-selection_recall"' in definition[0]
        assert f'<th scope="row" id="{use}-selection_recall">' in html
    rows = re.findall(r'<th scope="row" id="[a-z]+(?:-\d)?-([a-z0-9_]+)">', html)
    assert {f"def-{name}" for name in rows} <= set(outline(html).ids)


def test_every_metric_of_every_model_has_its_value_interval_and_n() -> None:
    given = report(USUAL)
    html = rendered(USUAL)["report.html"]
    line = re.search(r'<tr><th scope="row" id="all-selection_recall">.*?</tr>', html, re.S)
    assert line is not None
    cells = re.findall(r"<td>(.*?)</td>", line[0])
    assert len(cells) == 2
    for cell, name in zip(cells, given.names, strict=True):
        row = (
            given.metrics.filter(metric="selection_recall", model=name)
            .filter(pl.col("layer").is_null())
            .row(0, named=True)
        )
        value, low, high, n = re.match(r"([\d.]+)<small>([\d.]+) to ([\d.]+) \(n = (\d+)\)</small>", cell).groups()  # type: ignore[union-attr]
        assert [float(value), float(low), float(high)] == pytest.approx(
            [row["value"], row["ci_low"], row["ci_high"]], abs=1e-3
        )
        assert int(n) == row["n"]


def test_what_is_known_of_each_model_stands_side_by_side() -> None:
    html = rendered(CASES["dense candidate"])["report.html"]
    row = re.search(r'<tr><th scope="row">indexer</th>(.*?)</tr>', html)
    assert row is not None
    assert re.findall(r"<td[^>]*>(.*?)</td>", row[1]) == ["in 2 layers", "none (dense attention)"]


def test_a_metric_that_no_definition_names_is_shown_as_text() -> None:
    given = bare(report(candidates=()))
    name = "<img src=x onerror=alert(1)>"
    own = given.metrics.head(1).with_columns(metric=pl.lit(name))
    html = render(replace(given, metrics=pl.concat([given.metrics, own])))["report.html"]
    assert "<img" not in html and "&lt;img src=x onerror=alert(1)&gt;" in html


def test_layers_and_heads_that_can_be_chosen_are_those_of_the_frames() -> None:
    given = report(USUAL)
    explorer = data(rendered(USUAL)["report.html"])["explorers"]["model-2"]
    assert explorer["layers"] == [0, 1, 2, 3] and explorer["heads"] == 8
    (heads,) = [chart for chart in explorer["charts"] if chart["choose"]]
    by_head = (
        given.models[1]
        .analyses["distribution"]["by_head"]
        .sort("metric", "layer", "head", descending=[True, False, False])
    )
    assert heads["columns"]["value"] == pytest.approx(by_head["value"].to_list(), rel=1e-3)


def test_what_a_small_page_leaves_out_is_named() -> None:
    frame = pl.DataFrame(
        [(metric, layer, head, 0.5) for metric in ("a", "b", "c") for layer in range(61) for head in range(200)],
        schema={"metric": pl.String, "layer": pl.Int16, "head": pl.Int16, "value": pl.Float64},
        orient="row",
    )
    given = report(layers=3)
    page = replace(given.models[0], analyses={"distribution": {"by_head": frame}})
    found = explorer_data(given, page)
    assert found is not None
    text = (
        "Of 3 metrics of single attention heads the page holds 1, to stay small; the others (b, c) are in the table "
        "by_head of the store."
    )
    assert found["notes"] == [{"chapter": "misses", "text": text}]
    assert len(found["charts"][0]["columns"]["value"]) == 61 * 200
