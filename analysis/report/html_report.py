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
from indexscope.analysis.report.chapters import CHAPTERS, Chapter, ChapterKey
from indexscope.analysis.report.definitions import DEFINITIONS
from indexscope.analysis.report.explorer import explorer_data
from indexscope.analysis.report.glossary import glossary, slugs
from indexscope.analysis.report.inputs import Level, ModelPage, ReportInput
from indexscope.analysis.report.model_facts import facts_table
from indexscope.analysis.report.numbers import DASH, percent
from indexscope.analysis.report.over_time import LINK, PLACE
from indexscope.analysis.report.overlaid import overlaid
from indexscope.analysis.report.page import templates
from indexscope.analysis.report.panelled import Shown, answers, first_advice, shown_panels
from indexscope.analysis.report.pictures import Picture
from indexscope.analysis.report.provenance import provenance_groups
from indexscope.analysis.report.quoted import quotes
from indexscope.analysis.report.ranking import RULE, advised
from indexscope.analysis.report.sentences import few
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
    measured_table,
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
_CAUTIONS = {
    "missing": "no result",
    "nothing": "indexer selects everything",
    "little": "indexer hardly in effect",
    "small": "study too small",
}
SCRIPTS = ("report.js", "figures.js", "charts.js", "choice.js", "search.js", "start.js")
"""Parts of the page's one script, in order."""


@dataclass(frozen=True)
class _Page:
    """What the template shows of one model."""

    anchor: str
    name: str
    role: str
    layers: LayerTable | None
    panels: tuple[Shown, ...]
    explorer: dict[str, Any] | None
    run: bool

    def of(self, chapter: ChapterKey) -> tuple[Shown, ...]:
        """Its panels in one chapter."""
        return tuple(panel for panel in self.panels if panel.chapter == chapter)


@dataclass(frozen=True)
class _Part:
    """A chapter with what the template shows of it."""

    chapter: Chapter
    title: str
    answers: tuple[str, ...]
    pictures: tuple[Picture, ...]
    pages: tuple[tuple[_Page, tuple[Shown, ...]], ...]
    drawn: bool

    @property
    def told(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.answers or self.pictures or self.pages or self.drawn)


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
        pictures: Its figures over all models, each with the chapter that it stands in.

    Everything from outside (names, rules, provenance) passes through the template's escaping; only figures drawn here
    are inserted as they are. The page carries a content security policy that allows no request at all.
    """
    script = "\n".join(_source(name).strip() for name in SCRIPTS) + "\n"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    words, report = verdict(report), report.for_readers()
    found = slugs(report)
    keys = key_rows(report)
    detailed = _detailed(report)
    comparisons = [
        _comparison(report, page, place) for place, page in enumerate(report.candidates, 1) if page in detailed
    ]
    pages = [_page(report, page, f"model-{place}") for place, page in enumerate(report.models, 1) if page in detailed]
    measured = measured_table(report, [page.name for page in detailed if not page.dump])
    parts = _parts(report, pages, pictures)
    template = templates().get_template("report.html.j2")
    return template.render(
        study=plain(report.study),
        verdict=words,
        level_words=_level_words(report, words),
        failed_gates=[row for row in report.gates.iter_rows(named=True) if row["passed"] is False],
        cautions=_cautions(words),
        failed_audits=report.causality["passed"].eq_missing(False).sum(),
        advice=first_advice(report, advised(report)),
        confidence=percent(report.confidence),
        samples=report.samples,
        baseline=plain(report.baseline.name) if report.baseline else "",
        candidates=[plain(page.name) for page in (*report.candidates, *report.dumps)],
        causality=list(report.causality.iter_rows(named=True)),
        gates=list(report.gates.iter_rows(named=True)),
        key_rows=keys,
        ranking=ranking_rows(report) if len(report.candidates) > 1 else (),
        ranking_heads=RANKING_HEADS,
        quotes=quotes(report),
        ranking_rule=RULE,
        words=DEFINITIONS,
        overview=[picture for picture in pictures if picture.chapter == "overview"],
        parts=parts,
        comparisons=comparisons,
        undetailed=len(report.models) - len(detailed),
        measured=measured,
        facts=facts_table(detailed),
        slugs=found,
        definitions=glossary(found, _tables(keys, comparisons, measured)),
        data=embedded(_data(report, pictures, pages)),
        pages=pages,
        provenance=provenance_groups(report.provenance),
        dash=DASH,
        history_place=Markup(PLACE),
        history_link=Markup(LINK),
        style=Markup(_source("report.css")),
        script=Markup(script),
        script_digest=digest,
    )


def compile_templates() -> None:
    """Have the page's templates compiled, which each is when it is first used."""
    for name in templates().list_templates(extensions=["j2"]):
        templates().get_template(name)


def _detailed(report: ReportInput) -> list[ModelPage]:
    """The models that the page tells all of; of the others it has a row among the candidates, and report.json all."""
    kept = overlaid(report)
    return [page for page in report.models if page.name in kept or page.dump]


def _first_seen(report: ReportInput, pages: Sequence[_Page]) -> str:
    """The model whose details are shown until a reader chooses: the best candidate, if there is one."""
    names = [plain(name) for name in advised(report)]
    return min(pages, key=lambda page: names.index(page.name)).anchor if pages else ""


def _parts(report: ReportInput, pages: Sequence[_Page], pictures: Sequence[Picture]) -> list[_Part]:
    told = answers(report)
    selects = any(page.has_indexer or page.dump for page in report.models)
    drawn = {chart["chapter"] for page in pages if page.explorer for chart in page.explorer["charts"]}
    return [
        _Part(
            chapter,
            chapter.called(selects),
            told[chapter.key],
            tuple(picture for picture in pictures if picture.chapter == chapter.key),
            tuple((page, own) for page in pages if (own := page.of(chapter.key))),
            chapter.key in drawn,
        )
        for chapter in CHAPTERS
        if chapter.key != "overview"
    ]


def _data(report: ReportInput, pictures: Iterable[Picture], pages: Sequence[_Page]) -> dict[str, Any]:
    """What the page's script reads: the rows of each figure, the models, and what can be drawn of each, by id."""
    return {
        "figures": {f"figure-{picture.identifier}": picture.data for picture in pictures if picture.data},
        "models": [{"id": page.anchor, "name": page.name} for page in pages],
        "chosen": _first_seen(report, pages),
        "explorers": {page.anchor: page.explorer for page in pages if page.explorer},
    }


def _tables(
    keys: Iterable[tuple[Compared, object]], comparisons: Iterable[_Comparison], measured: Iterable[Section]
) -> Iterator[tuple[str, str, list[str]]]:
    """Id prefix, label and metrics of every table whose rows are metrics."""
    yield "key", "key numbers", [row.metric for row, _ in keys]
    for comparison in comparisons:
        names = [row.metric for section in comparison.sections for row in section.rows]
        yield comparison.anchor, f"comparison of {comparison.name}", names
    yield "all", "metrics of all models", [row.metric for section in measured for row in section.rows]


def _level_words(report: ReportInput, words: Verdict) -> str:
    if report.causality["passed"].eq_missing(False).any():
        return "Void: causality audit failed"
    return "Selections compared" if report.dumps and not report.candidates else _LEVELS[words.level]


def _cautions(words: Verdict) -> list[tuple[str, str]]:
    """What warnings there are, and of which models; of failed audits the page says more."""
    models: dict[str, list[str]] = {}
    for warning in words.warnings:
        if warning.kind in _CAUTIONS:
            models.setdefault(warning.kind, []).append(plain(warning.model))
    return [(_CAUTIONS[kind], few(names)) for kind, names in models.items()]


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
        layers=layer_table(report, page),
        panels=shown_panels(page),
        explorer=explorer_data(report, page),
        run=not page.dump,
    )


def embedded(data: Mapping[str, object]) -> str:
    """The data as text of a script element that is no script; the page's own script unpacks it.

    A report of 61 layers holds some 5 MB of numbers, of which this leaves a third.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8", "surrogatepass"), 9)).decode()
