"""report.html asks nothing of the network, shows foreign text as text, and is complete at any size."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import polars as pl
import pytest

from analysis.report import ReportInput, render
from tests.report.fixtures import report

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
    r"@import|url\((?!#)|<(?:link|iframe|object|embed|img|base|form)\b|\bfetch\(|XMLHttpRequest|WebSocket", re.I
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


CASES: dict[str, dict[str, Any]] = {
    "one candidate": {"layers": 4},
    "three candidates": {"layers": 6, "candidates": ("a", "b", "c")},
    "no candidate": {"candidates": ()},
    "dense alone": {"candidates": (), "dense": ("baseline",)},
    "dense candidate": {"dense": ("light",)},
    "dense baseline": {"dense": ("baseline",)},
    "hostile names": {"baseline": HOSTILE[0], "candidates": HOSTILE[1:]},
    "one layer, one head": {"layers": 1, "heads": 1},
}


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_whole_and_asks_nothing_of_the_network(case: str) -> None:
    html = render(report(**CASES[case]))["report.html"]
    found = outline(html)
    assert found.wrong == [] and found.open == []
    assert len(found.ids) == len(set(found.ids))
    data = [target for target in found.targets if not target.startswith("data:image/png;base64,")]
    assert set(data) <= set(found.ids)
    assert "http://" not in html and "https://" not in html
    assert not FETCH.search(html) and not ADDRESS.search(html)
    assert "DOCTYPE svg" not in html and "<metadata" not in html
    assert found.tags.count("script") == 1
    shown = re.sub(r"<svg.*?</svg>|<style.*?</style>|<script.*?</script>", "", html, flags=re.S)
    assert not re.search(r">\s*(nan|None|null|inf|-inf|Infinity)\s*<", shown, re.I)


def test_tables_have_captions_and_scopes() -> None:
    html = render(report())["report.html"]
    assert html.count("<table") == html.count("<caption") > 5
    assert not re.search(r"<th(?![^>]*scope=)[ >]", html)
    assert html.count("<figure ") == html.count("<figcaption") == html.count('role="img"')


@pytest.mark.parametrize("name", HOSTILE)
def test_foreign_text_is_shown_and_never_run(name: str) -> None:
    given = report(baseline=name)
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


def test_the_verdict_stands_before_the_audit_and_the_audit_before_the_comparison() -> None:
    html = render(report())["report.html"]
    order = [html.index(f'<section id="{key}"') for key in ("verdict", "checks", "comparison", "figures", "model-1")]
    assert order == sorted(order)
    assert html.index('<section id="provenance"') > order[-1]


def test_values_of_the_comparison_are_the_frames_values() -> None:
    given = report()
    html = render(given)["report.html"]
    row = given.comparisons.filter((pl.col("metric") == "selection_recall") & pl.col("layer").is_null()).row(
        0, named=True
    )
    table = html[html.index("every metric") :]
    line = re.search(r'<tr><th scope="row">selection_recall.*?</tr>', table, re.S)
    assert line is not None
    for value in (row["baseline"], row["value"], row["difference"], row["ci_low"], row["ci_high"]):
        assert f"{abs(value):.3f}" in line[0]
    assert f"<td>{row['n']}</td>" in line[0]


def test_metrics_that_only_one_model_has_are_named() -> None:
    html = render(report(dense=("light",)))["report.html"]
    note = re.search(r"Measured for the baseline only, so not compared: ([^<]*)", html)
    assert note is not None and "selection_recall" in note[1] and "nll" not in note[1].split(", ")


def test_a_heavy_report_stays_under_five_megabytes() -> None:
    heavy: ReportInput = report(layers=61, heads=128, candidates=("a", "b", "c"))
    html = render(heavy)["report.html"]
    assert len(html.encode()) < 5_000_000
    assert html.count('<th scope="row" data-sort="60">60</th>') == 4
    assert html.count("Table of 61 layers") == 4
