"""report.md: the report's words and tables for a pull request, an issue or a notebook."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.metrics.registry import label
from indexscope.analysis.names import markdown, plain
from indexscope.analysis.report.comment import Comment, size, table
from indexscope.analysis.report.definitions import DEFINITIONS
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.key_numbers import key_numbers
from indexscope.analysis.report.numbers import DASH, count, known, number, percent
from indexscope.analysis.report.over_time import PLACE
from indexscope.analysis.report.panel import TextTable
from indexscope.analysis.report.panelled import asked, first_advice
from indexscope.analysis.report.quoted import quotes
from indexscope.analysis.report.ranking import RULE, advised
from indexscope.analysis.report.tables import (
    RANKING_HEADS,
    Compared,
    Measured,
    compared,
    comparison_sections,
    dropped,
    length_rows,
    measured_sections,
    ranking_rows,
)
from indexscope.analysis.report.verdict import verdict
from indexscope.errors import one_line

#: Characters of the parts that are not folded, and gates that are shown there.
_WARNINGS, _TABLE, _GATES_SHOWN = 1_500, 4_000, 10
#: Characters of the gates with their reasons.
_GATES = 14_000


def build_markdown(report: ReportInput, opened: bool = False) -> str:
    """The report as GitHub-flavoured Markdown that fits a comment: under 65,536 characters, whatever the study.

    A screen of it stands open: verdict, warnings, gates, key numbers of one candidate or the ranking of several, and
    what to change first. The rest is folded (or stands open below titles), and left out where there is no room.
    Names and rules are shown as text, whatever they contain.
    """
    words, report, comment = verdict(report), report.for_readers(), Comment(opened=opened)
    comment.add(f"# {markdown(plain(report.study))}", f"**{markdown(words.headline)}**")
    shown, more = _warnings([f"> **Warning:** {markdown(warning.text)}" for warning in words.warnings])
    comment.add(*shown, "## Gates", _gates(report), *_first(report), "" if opened else _LINKS)
    comment.fold("More warnings", more)
    comment.fold("Why", ["\n".join(f"- {markdown(sentence)}" for sentence in words.sentences)])
    comment.add(PLACE)
    comment.fold("Gates and their reasons", [_reasons(report)])
    if len(report.candidates) > 1:
        comment.fold("How candidates are ranked", [RULE])
        for page in report.candidates:
            comment.fold(f"{plain(page.name)}: key numbers", [_key_table(report, page.name)])
    if sentences := quotes(report):
        comment.fold("In a sentence", ["\n".join(f"- {markdown(sentence)}" for sentence in sentences)])
    comment.fold("Causality audit", [_audits(report)])
    for page in report.candidates:
        name = plain(page.name)
        comment.fold(f"{name}: every metric", _comparison(report, page.name))
        _briefs(report, page, comment)
        comment.fold(f"{name}: headline metrics by context length", [_lengths(report, page.name)])
        comment.fold(f"{name}: {label('selection_recall')} by layer", [_layers(report, page.name)])
    for page in report.dumps:
        comment.fold(
            f"{plain(page.name)}: what it selects", ["\n".join(f"- {markdown(text)}" for text in _words(page))]
        )
        _briefs(report, page, comment)
    for page in report.measured if not report.candidates else []:
        comment.fold(f"{plain(page.name)}: every metric", _metrics(report, page.name))
    comment.fold("Models", [_models(report)])
    if report.candidates:
        comment.fold("What the words mean", ["\n".join(f"- **{word}**: {meant}" for word, meant in DEFINITIONS)])
    return comment.text()


def _warnings(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those that there is room for, the first in any case, and the others."""
    room, shown = _WARNINGS, 0
    for text in texts:
        room -= size(text)
        if room < 0 and shown:
            break
        shown += 1
    return list(texts[:shown]), list(texts[shown:])


def _briefs(report: ReportInput, page: ModelPage, comment: Comment) -> None:
    for panel, frames in asked(page):
        if (brief := panel.brief(frames)) is not None:
            comment.fold(f"{plain(page.name)}: {brief.caption}", [_brief(report, brief)])


def _words(page: ModelPage) -> list[str]:
    return [text for panel, frames in asked(page) for text in panel.words(frames)]


def _audits(report: ReportInput) -> str:
    if report.causality.is_empty():
        return "No model was audited."
    words = {True: "passed", False: "**failed**", None: "not audited"}
    rows = [
        (
            markdown(plain(row["model"])),
            words[row["passed"]] + (", layer by layer" if row["passed"] and row["layer_change"] is not None else ""),
            number(row["max_logit_change"]),
        )
        for row in report.causality.iter_rows(named=True)
    ]
    return table(("model", "causality", "largest change of an earlier logit"), rows, "llr")


def _gates(report: ReportInput) -> str:
    """Failed gates first, so that they are shown whatever the number of gates; a reason only where one failed."""
    if report.gates.is_empty():
        return "No gates were set."
    rows = [(*row[:4], row[4] if row[0] == _RESULTS[False] else "") for row in _gate_rows(report)]
    more = len(rows) - _GATES_SHOWN
    note = f"\n\nand {more} more gates, below." if more > 0 else ""
    return table(_GATE_HEADS, rows[:_GATES_SHOWN], "lllrl", _TABLE) + note


def _reasons(report: ReportInput) -> str:
    return "" if report.gates.is_empty() else table(_GATE_HEADS, _gate_rows(report), "lllrl", _GATES)


_RESULTS = {False: "❌ failed", None: "⚪ not evaluated", True: "✅ passed"}
_GATE_HEADS = ("result", "gate", "rule", "value", "reason")


def _gate_rows(report: ReportInput) -> list[tuple[str, ...]]:
    order = list(_RESULTS)
    return [
        (
            _RESULTS[row["passed"]],
            markdown(plain(row["name"])),
            markdown(plain(row["rule"])),
            number(row["value"]),
            markdown(one_line(row["reason"] or "")),
        )
        for row in sorted(report.gates.iter_rows(named=True), key=lambda row: order.index(row["passed"]))
    ]


_LINKS = "All figures and every number: [report.html](report.html), [report.json](report.json)."


def _first(report: ReportInput) -> list[str]:
    """The key numbers of one candidate or of the models, or the ranking of several, and what to change first."""
    blocks: list[str] = []
    if len(report.candidates) > 1:
        rows = [tuple(map(markdown, row)) for row in ranking_rows(report)]
        blocks += ["## Ranking", table(RANKING_HEADS, rows, "rllrrrrl", _TABLE)]
    else:
        for page in report.candidates or report.measured:
            if shown := _key_table(report, page.name):
                blocks += [f"## Key numbers of {markdown(plain(page.name))}", shown]
    if (found := first_advice(report, advised(report))) is not None:
        model, advice = found
        blocks.append(f"**What to change first** ({markdown(plain(model))}): {markdown(advice)}")
    return blocks


def _key_table(report: ReportInput, model: str) -> str:
    numbers = key_numbers(report, model)
    rows = [
        (markdown(one.name), one.baseline, one.value, one.difference, one.interval, markdown(one.reading))
        for one in numbers
    ]
    base, own = report.sides(model) if any(page.name == model for page in report.candidates) else ("", "value")
    heads = ("metric", base, own, "difference", f"{percent(report.confidence)} CI", "reading")
    return table(heads, rows, "lrrrrl", _TABLE) if rows else ""


def _heads(report: ReportInput, candidate: str, *first: str) -> tuple[str, ...]:
    interval = f"{percent(report.confidence)} CI"
    return (*first, "unit", *report.sides(candidate), "difference", interval, "n", "adjusted p", "reading")


def _row(row: Compared, *first: str) -> tuple[str, ...]:
    return (
        *(*first, markdown(row.unit), row.baseline, row.value, row.difference, row.interval, row.n),
        *(markdown(row.p), row.judgement.word),
    )


def _comparison(report: ReportInput, candidate: str) -> list[str]:
    heads = (*_heads(report, candidate, "metric")[:-1], "effect size", "detectable", "reading")
    blocks = []
    for section in comparison_sections(report, candidate):
        rows = [
            (*_row(row, markdown(row.metric))[:-1], row.effect, row.mde, row.judgement.word) for row in section.rows
        ]
        blocks += [f"### {markdown(section.title)}", table(heads, rows, "llrrrrrrrrl")]
    ours, theirs = dropped(report, candidate)
    for names, whose in ((ours, "the baseline"), (theirs, "the candidate")):
        if names:
            blocks.append(f"Measured for {whose} only, so not compared: {', '.join(map(markdown, names))}.")
    return blocks or ["Nothing could be compared."]


def _lengths(report: ReportInput, candidate: str) -> str:
    rows = [_row(row, markdown(row.metric), kind, str(end)) for end, kind, row in length_rows(report, candidate)]
    return table(_heads(report, candidate, "metric", "queries", "length"), rows, "llrlrrrrrrl") if rows else ""


def _layers(report: ReportInput, candidate: str) -> str:
    own = report.own_comparisons(candidate).filter(
        pl.col("layer").is_not_null() & (pl.col("metric") == "selection_recall")
    )
    rows = [_row(compared(row), str(row["layer"])) for row in own.sort("layer").iter_rows(named=True)]
    return table(_heads(report, candidate, "layer"), rows, "rlrrrrrrl") if rows else ""


def _brief(report: ReportInput, brief: TextTable) -> str:
    heads = [f"{percent(report.confidence)} CI" if head == "CI" else head for head in brief.columns]
    rows = [tuple(map(markdown, row)) for row in brief.rows]
    return table(heads, rows, "".join("l" if wordy else "r" for wordy in brief.wordy))


def _metrics(report: ReportInput, model: str) -> list[str]:
    heads = ("metric", "unit", "value", f"{percent(report.confidence)} CI", "n")
    blocks: list[str] = []
    for section in measured_sections(report, model):
        rows: Sequence[Sequence[str]] = [_measured(row) for row in section.rows]
        blocks += [f"### {markdown(section.title)}", table(heads, rows, "llrrr")]
    return blocks or ["No metrics."]


def _measured(row: Measured) -> tuple[str, ...]:
    return markdown(row.metric), markdown(row.unit), row.value, row.interval, row.n


def _models(report: ReportInput) -> str:
    rows = []
    for page in report.models:
        facts = page.facts
        indexer = DASH if page.dump else "none"
        if page.has_indexer:
            heads, dim, topk = (count(facts.get(key)) for key in ("indexer_heads", "indexer_dim", "index_topk"))
            indexer = f"{heads} heads × {dim}, top {topk}"
        parameters = number(known(facts.get("parameters")), "parameters")
        cells = (page.role, markdown(facts.get("family") or DASH), parameters, indexer, f"`{_code(page.fingerprint)}`")
        rows.append((markdown(plain(page.name)), *cells))
    return table(("model", "role", "family", "parameters", "indexer", "fingerprint"), rows, "lllrll") if rows else ""


def _code(text: str) -> str:
    return "".join(character for character in text if character.isalnum() or character in "-_:.")[:80] or "–"
