"""report.html: one file that opens offline, prints, and asks nothing of the network."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from indexscope.analysis.names import plain
from indexscope.analysis.report.catalogue import meaning
from indexscope.analysis.report.definitions import DEFINITIONS
from indexscope.analysis.report.explorer import explorer_data
from indexscope.analysis.report.glossary import glossary, slugs
from indexscope.analysis.report.inputs import Level, ModelPage, ReportInput
from indexscope.analysis.report.numbers import DASH, count, number, percent
from indexscope.analysis.report.over_time import LINK, PLACE
from indexscope.analysis.report.page import templates
from indexscope.analysis.report.panelled import Shown, shown_panels
from indexscope.analysis.report.pictures import Picture
from indexscope.analysis.report.provenance import provenance_groups
from indexscope.analysis.report.ranking import RULE
from indexscope.analysis.report.tables import (
    RANKING_HEADS,
    Compared,
    LayerTable,
    Section,
    comparison_sections,
    dropped,
    key_rows,
    layer_table,
    length_rows,
    measured_sections,
    ranking_rows,
)
from indexscope.analysis.report.verdict import Verdict, verdict

_LEVELS: dict[Level, str] = {
    "better": "Better on the headline metrics",
    "worse": "Worse on the headline metrics",
    "mixed": "Better and worse on the headline metrics",
    "equivalent": "Equivalent on the headline metrics",
    "unchanged": "No difference detected in the headline metrics",
    "none": "Nothing compared",
}
SCRIPTS = ("report.js", "figures.js", "explorer.js")
"""Parts of the page's one script, in order."""
_OPEN_LAYERS = 12
"""Longer layer tables start folded."""


@dataclass(frozen=True)
class _Page:
    """What the template shows of one model."""

    anchor: str
    name: str
    role: str
    facts: tuple[tuple[str, str], ...]
    metrics: tuple[Section, ...]
    layers: LayerTable | None
    panels: tuple[Shown, ...]
    explorer: dict[str, Any] | None
    has_indexer: bool


@dataclass(frozen=True)
class _Comparison:
    """What the template shows of one candidate beside the baseline."""

    anchor: str
    name: str
    sides: tuple[str, str]
    sections: tuple[Section, ...]
    lengths: tuple[tuple[int, str, Compared], ...]
    only_baseline: tuple[str, ...]
    only_candidate: tuple[str, ...]


def build_html(report: ReportInput, pictures: Sequence[Picture]) -> str:
    """The report as one HTML document.

    Args:
        report: The report.
        pictures: Its figures over all models.

    Everything from outside (names, rules, provenance) passes through the template's escaping; only figures drawn here
    are inserted as they are. The page carries a content security policy that allows no request at all.
    """
    script = "\n".join(_source(name).strip() for name in SCRIPTS) + "\n"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    words, report = verdict(report), report.for_readers()
    failed = report.causality["passed"].eq_missing(False).sum()
    found = slugs(report)
    keys = key_rows(report)
    comparisons = [_comparison(report, page, place) for place, page in enumerate(report.candidates, 1)]
    anchors = {page.name: f"model-{place}" for place, page in enumerate(report.models, 1)}
    pages = [_page(report, page, anchors[page.name]) for page in report.models]
    template = templates().get_template("report.html.j2")
    return template.render(
        study=plain(report.study),
        verdict=words,
        level_words=_level_words(report, words),
        failed_gates=report.gates["passed"].eq_missing(False).sum(),
        failed_audits=failed,
        confidence=percent(report.confidence),
        samples=report.samples,
        baseline=plain(report.baseline.name) if report.baseline else "",
        candidates=[plain(page.name) for page in (*report.candidates, *report.dumps)],
        causality=list(report.causality.iter_rows(named=True)),
        gates=list(report.gates.iter_rows(named=True)),
        key_rows=keys,
        ranking=ranking_rows(report) if len(report.candidates) > 1 else (),
        ranking_heads=RANKING_HEADS,
        ranking_rule=RULE,
        words=DEFINITIONS,
        comparisons=comparisons,
        slugs=found,
        definitions=glossary(found, _tables(keys, comparisons, pages)),
        figures=pictures,
        data=embedded(_data(pictures, pages)),
        pages=pages,
        provenance=provenance_groups(report.provenance),
        open_layers=_OPEN_LAYERS,
        dash=DASH,
        history_place=Markup(PLACE),
        history_link=Markup(LINK),
        meaning=meaning,
        style=Markup(_source("report.css")),
        script=Markup(script),
        script_digest=digest,
    )


def _data(pictures: Iterable[Picture], pages: Sequence[_Page]) -> dict[str, Any]:
    """What the page's script reads: the rows of each figure, and what can be looked at layer by layer, by id."""
    every = [*pictures, *(picture for page in pages for panel in page.panels for picture in panel.pictures)]
    figures = {f"figure-{picture.identifier}": picture.data for picture in every if picture.data}
    return {"figures": figures, "explorers": {page.anchor: page.explorer for page in pages if page.explorer}}


def _tables(
    keys: Iterable[tuple[Compared, object]], comparisons: Iterable[_Comparison], pages: Iterable[_Page]
) -> Iterator[tuple[str, str, list[str]]]:
    """Id prefix, label and metrics of every table whose rows are metrics."""
    yield "key", "key numbers", [row.metric for row, _ in keys]
    for comparison in comparisons:
        names = [row.metric for section in comparison.sections for row in section.rows]
        yield comparison.anchor, f"comparison of {comparison.name}", names
    for page in pages:
        yield page.anchor, f"metrics of {page.name}", [row.metric for section in page.metrics for row in section.rows]


def _level_words(report: ReportInput, words: Verdict) -> str:
    if report.causality["passed"].eq_missing(False).any():
        return "Void: causality audit failed"
    return "Selections compared" if report.dumps and not report.candidates else _LEVELS[words.level]


def _source(name: str) -> str:
    loader = templates().loader
    assert loader is not None
    return loader.get_source(templates(), name)[0]


def _comparison(report: ReportInput, page: ModelPage, place: int) -> _Comparison:
    ours, theirs = dropped(report, page.name)
    sections, lengths = comparison_sections(report, page.name), length_rows(report, page.name)
    sides = report.sides(page.name)
    return _Comparison(f"comparison-{place}", plain(page.name), sides, sections, lengths, ours, theirs)


def _page(report: ReportInput, page: ModelPage, anchor: str) -> _Page:
    return _Page(
        anchor=anchor,
        name=plain(page.name),
        role=page.role,
        facts=_facts(page),
        metrics=measured_sections(report, page.name),
        layers=layer_table(report, page),
        panels=shown_panels(page, anchor),
        explorer=explorer_data(report, page),
        has_indexer=page.has_indexer or bool(page.dump),
    )


def _facts(page: ModelPage) -> tuple[tuple[str, str], ...]:
    if page.dump:
        return ("role", page.role), ("fingerprint", plain(page.fingerprint)), ("selections, made by", plain(page.dump))
    facts = page.facts

    def parameters(key: str) -> str:
        return number(facts.get(key), "parameters")

    def text(key: str) -> str:
        return plain(facts[key]) if facts.get(key) not in (None, "") else DASH

    rows = [
        ("role", page.role),
        ("fingerprint", plain(page.fingerprint)),
        ("family", text("family")),
        ("parameters", parameters("parameters")),
        ("layers × attention heads", f"{count(facts.get('layers'))} × {count(facts.get('attention_heads'))}"),
    ]
    if page.has_indexer:
        heads, width, layers = (count(facts.get(key)) for key in ("indexer_heads", "indexer_dim", "indexer_layers"))
        rows += [
            ("indexer heads × width", f"{heads} × {width}, in {layers} layers"),
            ("keys selected per query, at most", count(facts.get("index_topk"))),
            ("indexer parameters", parameters("indexer_parameters")),
        ]
    else:
        rows.append(("indexer", "none (dense attention)"))
    return (*rows, ("precision and device", f"{text('dtype')} on {text('device')}"))


def embedded(data: Mapping[str, object]) -> str:
    """The data as text of a script element that is no script; the page's own script unpacks it.

    A report of 61 layers holds some 5 MB of numbers, of which this leaves a third.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8", "surrogatepass"), 9)).decode()
