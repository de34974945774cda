"""The verdict in plain words. It says what the intervals allow and no more: not detected is not equivalent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

import polars as pl

from indexscope.analysis.metrics.registry import label
from indexscope.analysis.names import plain
from indexscope.analysis.report.catalogue import is_cost
from indexscope.analysis.report.inputs import Level, ModelPage, ReportInput, once
from indexscope.analysis.report.judgement import judge
from indexscope.analysis.report.limits import limits
from indexscope.analysis.report.numbers import number
from indexscope.analysis.report.sentences import Outcome, few, join, portrait, sentence
from indexscope.analysis.report.warnings import Caution, warnings


@dataclass(frozen=True)
class Verdict:
    """The report in words.

    Attributes:
        headline: One sentence.
        sentences: What the headline rests on, and what limits it.
        level: better, worse, mixed, equivalent (within the margins), unchanged (nothing detected and nothing shown) or
            none (nothing to compare).
        warnings: What makes the numbers worthless or weak; the headline and the first sentences say it too.
    """

    headline: str
    sentences: tuple[str, ...]
    level: Level
    warnings: tuple[Caution, ...] = ()


@dataclass(frozen=True)
class _Aspect:
    """One thing a verdict speaks of: the metrics that may stand for it, best first, and its phrases.

    "{metric}" in a phrase is what the metric that stands for it is called.
    """

    metrics: tuple[str, ...]
    better: str
    worse: str
    subject: str

    def phrase(self, outcome: Outcome, metric: str) -> str:
        """The outcome as what a candidate "has", by the metric that stands for it."""
        if outcome == "better":
            return self.better.format(metric=label(metric))
        if outcome == "worse":
            return self.worse.format(metric=label(metric))
        subject = self.subject.format(metric=label(metric))
        if outcome == "equivalent":
            return f"{subject} equivalent within the margin"
        return f"the same {subject}" if outcome == "same" else f"no detectable difference in {subject}"


_SELECTION = ("selection_skill", "selection_recall")
_ASPECTS = (
    _Aspect(
        ("nll", "accuracy"), "better next-token prediction", "worse next-token prediction", "next-token prediction"
    ),
    _Aspect(_SELECTION, "higher {metric}", "lower {metric}", "{metric}"),
    _Aspect(
        ("indexer_flops", "indexer_latency_ms", "indexer_parameters"),
        "a cheaper indexer",
        "a more expensive indexer",
        "indexer cost",
    ),
)


@dataclass(frozen=True)
class _Finding:
    aspect: _Aspect
    row: dict[str, Any]
    outcome: Outcome


@once
def verdict(report: ReportInput) -> Verdict:
    """Put the study's result in words.

    The level rests on three headline metrics chosen beforehand: next-token loss, selection skill and indexer FLOPs
    (each with a stand-in where it is missing). With forty metrics some interval leaves out zero by chance, so the
    others are listed and do not vote; and a difference votes only if it outlasts the correction for the headline
    metrics. A candidate is *better* if one of the three improved and none got worse, *worse* the other way round,
    *mixed* if both happened, *equivalent* if all that were sampled lie within their margins, and *unchanged* if no
    difference was detected and not all are shown to be within their margins. A model that failed the causality audit
    makes its comparison void, whatever the numbers. An indexer that selects every key leaves no level, since nothing
    was compared that a selection could change; that, one that does for most queries, and a candidate without a result
    are said in the headline.
    """
    found = warnings(report)
    kinds = {warning.kind for warning in found}
    told = _told(report)
    weak = [warning.text for warning in found if warning.kind != "audit"]
    headline = told.headline if "audit" in kinds else _weighed(told.headline, found)
    dumped = _dumped(report)
    headline = " ".join(filter(None, [headline, *dumped] if "audit" in kinds else [*dumped, headline]))
    if report.missing:
        have = "has no result" if len(report.missing) == 1 else "have no result"
        headline = f"Incomplete: {few([plain(name) for name in report.missing])} {have}. {headline}"
    level: Level = "none" if "nothing" in kinds and "audit" not in kinds else told.level
    return Verdict(headline, (*weak, *told.sentences), level, found)


def _dumped(report: ReportInput) -> list[str]:
    """What the selections from elsewhere come to, a sentence each."""
    from indexscope.analysis.report.panelled import asked

    return [
        f"{plain(page.name)} {clause}."
        for page in report.dumps
        for panel, frames in asked(page)
        if (clause := panel.headline(frames))
    ]


def _weighed(headline: str, found: Sequence[Caution]) -> str:
    """The headline, preceded or followed by what an indexer that is not in effect makes of it."""
    nothing = [plain(warning.model) for warning in found if warning.kind == "nothing"]
    little = [plain(warning.model) for warning in found if warning.kind == "little"]
    if nothing:
        indexers = "indexer of" if len(nothing) == 1 else "indexers of"
        selects = "selects" if len(nothing) == 1 else "select"
        return f"Nothing is said of sparsity: the {indexers} {few(nothing)} {selects} everything. {headline}"
    if little:
        return f"{headline} Read with care: most queries are too early for the indexer of {few(little)} to matter."
    return headline


def _told(report: ReportInput) -> Verdict:
    failed = [name for name in report.names if name in report.leaking]
    baseline = report.baseline
    if not report.candidates or baseline is None:
        return _alone(report, failed)
    findings = {page.name: _findings(report, page) for page in report.candidates}
    levels = {page.name: _level(findings[page.name]) for page in report.candidates}
    sentences = [_failed_gates(report)] if _failed_gates(report) else []
    for page in report.candidates:
        sentences += _about(report, page, findings[page.name], alone=len(report.candidates) == 1)
    sentences += limits(report)
    if failed:
        headline = _audit_headline(report, failed)
        return Verdict(headline, tuple(sentences), "none")
    if len(report.candidates) == 1:
        only = report.candidates[0]
        return Verdict(_compared(only, baseline, findings[only.name]), tuple(sentences), levels[only.name])
    return Verdict(_several(list(levels.values())), tuple(sentences), _together(list(levels.values())))


def _findings(report: ReportInput, page: ModelPage) -> list[_Finding]:
    rows = {row["metric"]: row for row in _overall(report, page.name)}
    found = []
    for aspect in _ASPECTS:
        for metric in aspect.metrics:
            outcome = _outcome(rows[metric]) if metric in rows else None
            if outcome is not None:
                found.append(_Finding(aspect, rows[metric], outcome))
                break
    return found


def _outcome(row: dict[str, Any]) -> Outcome | None:
    """A comparison row as an outcome, or None where it settles nothing."""
    judgement = judge(row)
    if (judgement.kind == "better" or judgement.kind == "worse") and not judgement.stands:
        return "inconclusive"
    if judgement.kind in get_args(Outcome):
        return cast(Outcome, judgement.kind)
    return None


def _overall(report: ReportInput, candidate: str) -> list[dict[str, Any]]:
    return list(report.own_comparisons(candidate).filter(pl.col("layer").is_null()).iter_rows(named=True))


def _level(findings: Sequence[_Finding]) -> Level:
    outcomes = {finding.outcome for finding in findings}
    if not outcomes:
        return "none"
    if {"better", "worse"} <= outcomes:
        return "mixed"
    if "better" in outcomes:
        return "better"
    if "worse" in outcomes:
        return "worse"
    # A count that is the same shows nothing of the quality.
    shown = any(finding.outcome in ("equivalent", "same") and finding.row["n"] is not None for finding in findings)
    return "equivalent" if outcomes <= {"equivalent", "same"} and shown else "unchanged"


def _together(levels: Sequence[Level]) -> Level:
    kinds = set(levels) - {"none"}
    if not kinds:
        return "none"
    if len(kinds) == 1:
        return kinds.pop()
    moved = kinds - {"equivalent", "unchanged"}
    if not moved:
        return "unchanged"
    return moved.pop() if len(moved) == 1 else "mixed"


def _compared(page: ModelPage, baseline: ModelPage, findings: Sequence[_Finding]) -> str:
    if not findings:
        return f"{plain(page.name)} and {plain(baseline.name)} share no metric that could be compared with an interval."
    # What got worse comes first: a reader must not have to look for it.
    order: tuple[Outcome, ...] = ("worse", "better", "inconclusive", "equivalent", "same")
    ordered = sorted(findings, key=lambda finding: order.index(finding.outcome))
    phrases = [finding.aspect.phrase(finding.outcome, finding.row["metric"]) for finding in ordered]
    return f"Compared with {plain(baseline.name)}, {plain(page.name)} has {join(phrases)}."


def _several(levels: Sequence[Level]) -> str:
    words: tuple[tuple[Level, str, str], ...] = (
        ("better", "improves", "improve on a headline metric with none detectably worse"),
        ("mixed", "is", "are better in some respects and worse in others"),
        ("worse", "is", "are worse on a headline metric with none detectably better"),
        ("equivalent", "is", "are equivalent within the margins of the headline metrics"),
        ("unchanged", "shows", "show no detectable difference in the headline metrics"),
        ("none", "could", "could not be compared"),
    )
    parts = []
    for level, singular, plural in words:
        if number_of := levels.count(level):
            verb, _, rest = plural.partition(" ")
            parts.append(f"{number_of} {singular if number_of == 1 else verb} {rest}")
    return f"Of {len(levels)} candidates against the baseline, {join(parts)}."


def _about(report: ReportInput, page: ModelPage, findings: Sequence[_Finding], alone: bool) -> list[str]:
    start = "" if alone else f"{plain(page.name)}: "
    if leak := [plain(one.name) for one in (page, report.baseline) if one is not None and one.name in report.leaking]:
        why = f"not judged, since {join(leak)} {'leaks' if len(leak) == 1 else 'leak'}."
        return [f"The comparison is {why}" if alone else f"{start}{why}"]
    told = [sentence(finding.row, finding.outcome, report.confidence) for finding in findings]
    if not told:
        told = ["No metric could be compared with an interval."]
    told += [text for text in (_others(report, page, findings), _layers(report, page)) if text]
    return told if alone else [start + " ".join(told)]


def _others(report: ReportInput, page: ModelPage, findings: Sequence[_Finding]) -> str:
    """The other metrics that have a better direction and moved detectably: worse ones first."""
    spoken = {finding.row["metric"] for finding in findings}
    rows = [row for row in _overall(report, page.name) if row["metric"] not in spoken]
    judged = {row["metric"]: judge(row) for row in rows}
    kinds = {metric: judgement.kind for metric, judgement in judged.items() if judgement.stands}
    parts = []
    for kind in ("worse", "better"):
        # Ten ways of being cheaper say one thing; any way of being dearer must not be missed.
        moved = [metric for metric, found in kinds.items() if found == kind]
        if names := [metric for metric in moved if kind == "worse" or not is_cost(metric)]:
            parts.append(f"{kind}: {', '.join(names)}")
    return f"Among the other metrics, {'; '.join(parts)}." if parts else ""


def _layers(report: ReportInput, page: ModelPage) -> str:
    layered = report.own_comparisons(page.name).filter(pl.col("layer").is_not_null())
    found = [layered.filter(pl.col("metric") == metric) for metric in _SELECTION]
    rows = next((rows for rows in found if rows.height > 1), None)
    if rows is None:
        return ""
    judged = [judge(row) for row in rows.iter_rows(named=True)]
    certain = {"equivalent": "equivalent", "same": "identical"}
    words = {"worse": "detectably lower", "better": "detectably higher", **certain}
    told = [words[own.kind] if own.kind in (certain if not own.stands else words) else "undecided" for own in judged]
    counts = {word: told.count(word) for word in (*words.values(), "undecided") if word in told}
    where = "all" if len(counts) == 1 else join([f"{word} in {count}" for word, count in counts.items()]) + " of"
    alike = f"{told[0]} in " if len(counts) == 1 else ""
    text = f"By layer, {label(rows['metric'][0])} is {alike}{where} {len(judged)} layers (corrected for their number)"
    if words["worse"] in told:
        lowest = rows.filter(pl.col("difference").is_finite()).sort("difference").row(0, named=True)
        text += f"; the largest drop is in layer {lowest['layer']} ({number(lowest['difference'], places=3)})"
    return text + "."


def _alone(report: ReportInput, failed: Sequence[str]) -> Verdict:
    sentences = [
        text for text in (_failed_gates(report), *map(lambda page: portrait(report, page), report.measured)) if text
    ]
    sentences += limits(report)
    if failed:
        return Verdict(_audit_headline(report, failed), tuple(sentences), "none")
    if report.dumps:
        return Verdict("", tuple(sentences), "none")
    if not report.models:
        return Verdict("The study has no model.", tuple(sentences), "none")
    name = plain(report.models[0].name)
    return Verdict(f"{name} was measured on its own: no candidate, so nothing is compared.", tuple(sentences), "none")


def _audit_headline(report: ReportInput, failed: Sequence[str]) -> str:
    names = join([plain(name) for name in failed])
    sound = report.baseline is not None and report.baseline.name not in failed
    others = sound and any(page.name not in failed for page in report.candidates)
    what = f"the numbers of {names}" if others else "these numbers"
    who = ("it" if len(failed) == 1 else "they") if others else names
    return f"Do not use {what}: {who} failed the causality audit, so later tokens leak into earlier predictions."


def _failed_gates(report: ReportInput) -> str:
    failed = report.gates.filter(pl.col("passed").eq_missing(False))
    if failed.is_empty():
        return ""
    told = [
        f"{plain(row['name'])} ({plain(row['rule'])}; value {number(row['value'])}{_where(row['layer'])})"
        for row in failed.iter_rows(named=True)
    ]
    return f"{failed.height} of {report.gates.height} gates failed: {join(told)}."


def _where(layer: int | None) -> str:
    return "" if layer is None else f" in layer {layer}"
