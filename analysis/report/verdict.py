"""The verdict in plain words. It says what the intervals allow and no more: undetected is not unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from analysis.report.catalogue import is_cost
from analysis.report.inputs import Level, ModelPage, ReportInput
from analysis.report.judgement import judge
from analysis.report.names import plain
from analysis.report.numbers import decimals, known, number, percent, span
from analysis.report.warnings import Caution, warnings

Outcome = Literal["better", "worse", "undetected", "same"]
FEW_SAMPLES = 10


@dataclass(frozen=True)
class Verdict:
    """The report in words.

    Attributes:
        headline: One sentence.
        sentences: What the headline rests on, and what limits it.
        level: better, worse, mixed, unchanged (no difference detected) or none (nothing to compare).
        warnings: What makes the numbers worthless or weak; the headline and the first sentences say it too.
    """

    headline: str
    sentences: tuple[str, ...]
    level: Level
    warnings: tuple[Caution, ...] = ()


@dataclass(frozen=True)
class _Aspect:
    """One thing a verdict speaks of: the metrics that may stand for it, best first, and its phrases."""

    metrics: tuple[str, ...]
    better: str
    worse: str
    subject: str

    def phrase(self, outcome: Outcome) -> str:
        """The outcome as what a candidate "has"."""
        if outcome == "better":
            return self.better
        if outcome == "worse":
            return self.worse
        return f"the same {self.subject}" if outcome == "same" else f"no detectable difference in {self.subject}"


_ASPECTS = (
    _Aspect(
        ("nll", "accuracy"), "better next-token prediction", "worse next-token prediction", "next-token prediction"
    ),
    _Aspect(("selection_recall",), "higher selection recall", "lower selection recall", "selection recall"),
    _Aspect(
        ("indexer_flops", "indexer_latency_ms", "indexer_parameters"),
        "a cheaper indexer",
        "a more expensive indexer",
        "indexer cost",
    ),
)
_UNSPOKEN = ("share", "ratio", "score", "")
_NAMES = {
    "nll": "Next-token loss",
    "accuracy": "Next-token accuracy",
    "selection_recall": "Selection recall",
    "indexer_flops": "Indexer FLOPs",
    "indexer_latency_ms": "Measured indexer latency",
    "indexer_parameters": "Indexer parameters",
    "efficiency_score": "The efficiency score",
}


@dataclass(frozen=True)
class _Finding:
    aspect: _Aspect
    row: dict[str, Any]
    outcome: Outcome


def verdict(report: ReportInput) -> Verdict:
    """Put the study's result in words.

    The level rests on three headline metrics chosen beforehand: next-token loss, selection recall and indexer FLOPs
    (each with a stand-in where it is missing). With forty metrics some interval leaves out zero by chance, so the
    others are listed and do not vote. A candidate is *better* if one of the three improved and none got worse, *worse*
    the other way round, *mixed* if both happened, and *unchanged* if no difference was detected. A model that failed
    the causality audit makes its comparison void, whatever the numbers; an indexer that selects every key, or does for
    most queries, is said in the headline.
    """
    found = warnings(report)
    told = _told(report)
    weak = [warning.text for warning in found if warning.kind != "audit"]
    headline = told.headline if any(warning.kind == "audit" for warning in found) else _weighed(told.headline, found)
    return Verdict(headline, (*weak, *told.sentences), told.level, found)


def _weighed(headline: str, found: Sequence[Caution]) -> str:
    """The headline, preceded or followed by what an indexer that is not in effect makes of it."""
    nothing = [plain(warning.model) for warning in found if warning.kind == "nothing"]
    little = [plain(warning.model) for warning in found if warning.kind == "little"]
    if nothing:
        indexers = "indexer of" if len(nothing) == 1 else "indexers of"
        selects = "selects" if len(nothing) == 1 else "select"
        return f"Nothing is said of sparsity: the {indexers} {_join(nothing)} {selects} everything. {headline}"
    if little:
        return f"{headline} Read with care: most queries are too early for the indexer of {_join(little)} to matter."
    return headline


def _told(report: ReportInput) -> Verdict:
    failed = _failed_audits(report)
    baseline = report.baseline
    if not report.candidates or baseline is None:
        return _alone(report, failed)
    findings = {page.name: _findings(report, page) for page in report.candidates}
    levels = {page.name: _level(findings[page.name]) for page in report.candidates}
    sentences = [_failed_gates(report)] if _failed_gates(report) else []
    for page in report.candidates:
        sentences += _about(report, page, findings[page.name], alone=len(report.candidates) == 1)
    sentences += _limits(report)
    if failed:
        headline = _audit_headline(failed)
        level: Level = "worse" if any(page.name in failed for page in report.candidates) else "none"
        return Verdict(headline, tuple(sentences), level)
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
    kind = judge(row).kind
    if kind == "better" or kind == "worse" or kind == "undetected" or kind == "same":
        return kind
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
    return "worse" if "worse" in outcomes else "unchanged"


def _together(levels: Sequence[Level]) -> Level:
    kinds = set(levels) - {"none"}
    if not kinds:
        return "none"
    if len(kinds) == 1:
        return kinds.pop()
    if kinds == {"better", "unchanged"}:
        return "better"
    return "worse" if kinds == {"worse", "unchanged"} else "mixed"


def _compared(page: ModelPage, baseline: ModelPage, findings: Sequence[_Finding]) -> str:
    if not findings:
        return f"{plain(page.name)} and {plain(baseline.name)} share no metric that could be compared with an interval."
    # What got worse comes first: a reader must not have to look for it.
    order: tuple[Outcome, ...] = ("worse", "better", "undetected", "same")
    ordered = sorted(findings, key=lambda finding: order.index(finding.outcome))
    phrases = [finding.aspect.phrase(finding.outcome) for finding in ordered]
    return f"Compared with {plain(baseline.name)}, {plain(page.name)} has {_join(phrases)}."


def _several(levels: Sequence[Level]) -> str:
    words: tuple[tuple[Level, str, str], ...] = (
        ("better", "improves", "improve on a headline metric with none detectably worse"),
        ("mixed", "is", "are better in some respects and worse in others"),
        ("worse", "is", "are worse on a headline metric with none detectably better"),
        ("unchanged", "shows", "show no detectable difference in the headline metrics"),
        ("none", "could", "could not be compared"),
    )
    parts = []
    for level, singular, plural in words:
        if number_of := levels.count(level):
            verb, _, rest = plural.partition(" ")
            parts.append(f"{number_of} {singular if number_of == 1 else verb} {rest}")
    return f"Of {len(levels)} candidates against the baseline, {_join(parts)}."


def _about(report: ReportInput, page: ModelPage, findings: Sequence[_Finding], alone: bool) -> list[str]:
    start = "" if alone else f"{plain(page.name)}: "
    told = [_sentence(finding.row, finding.outcome, report.confidence) for finding in findings]
    if not told:
        told = ["No metric could be compared with an interval."]
    told += [text for text in (_others(report, page, findings), _layers(report, page)) if text]
    return told if alone else [start + " ".join(told)]


def _others(report: ReportInput, page: ModelPage, findings: Sequence[_Finding]) -> str:
    """The other metrics that have a better direction and moved detectably: worse ones first."""
    spoken = {finding.row["metric"] for finding in findings}
    rows = [row for row in _overall(report, page.name) if row["metric"] not in spoken]
    kinds = {row["metric"]: judge(row).kind for row in rows}
    parts = []
    for kind in ("worse", "better"):
        # Ten ways of being cheaper say one thing; any way of being dearer must not be missed.
        moved = [metric for metric, found in kinds.items() if found == kind]
        if names := [metric for metric in moved if kind == "worse" or not is_cost(metric)]:
            parts.append(f"{kind}: {', '.join(names)}")
    return f"Among the other metrics, {'; '.join(parts)}." if parts else ""


def _sentence(row: dict[str, Any], outcome: Outcome, confidence: float) -> str:
    name, unit = _NAMES.get(row["metric"], row["metric"]), str(row["unit"] or "")
    difference, low, high = (known(row[key]) for key in ("difference", "ci_low", "ci_high"))
    places = decimals((low, high), known(row["value"]), known(row["baseline"]))
    tail = "" if unit in _UNSPOKEN else f" {unit}"
    values = f"{number(row['value'], unit, places)} against {number(row['baseline'], unit, places)}{tail}"
    if outcome == "same":
        where = "" if low is None else f" on every one of the {row['n']} samples"
        return f"{name}: equal{where} ({number(row['value'], unit)}{tail})."
    if low is None or high is None:
        return f"{name}: {values}{_relative(row)}."
    interval = f"{percent(confidence)} CI {span(low, high, unit, places, signed=True)}, n = {row['n']}"
    amount = f"{number(difference, unit, places, signed=True)}{tail}"
    if outcome == "undetected":
        return (
            f"{name}: no detectable difference ({amount}; {interval}); a true difference anywhere within that interval "
            "is not ruled out."
        )
    direction = f"{judge(row).direction} ({outcome})"
    return f"{name} is {direction} by {number(abs(difference or 0), unit, places)}{tail} ({values}; {interval})."


def _relative(row: dict[str, Any]) -> str:
    baseline, value = known(row["baseline"]), known(row["value"])
    if not baseline or value is None or baseline < 0:
        return ""
    change = value / baseline - 1
    return f", {percent(abs(change))} {'less' if change < 0 else 'more'}"


def _layers(report: ReportInput, page: ModelPage) -> str:
    rows = report.own_comparisons(page.name).filter(
        (pl.col("metric") == "selection_recall") & pl.col("layer").is_not_null()
    )
    if rows.height < 2:
        return ""
    kinds = [judge(row).kind for row in rows.iter_rows(named=True)]
    text = (
        f"By layer, selection recall is detectably lower in {kinds.count('worse')}, detectably higher in "
        f"{kinds.count('better')} and not detectably different in {kinds.count('undetected')} of {len(kinds)} layers"
    )
    if "worse" in kinds:
        lowest = rows.filter(pl.col("difference").is_finite()).sort("difference").row(0, named=True)
        text += f"; the largest drop is in layer {lowest['layer']} ({number(lowest['difference'], places=3)})"
    return text + "."


def _alone(report: ReportInput, failed: Sequence[str]) -> Verdict:
    sentences = [
        text for text in (_failed_gates(report), *map(lambda page: _portrait(report, page), report.models)) if text
    ]
    sentences += _limits(report)
    if failed:
        return Verdict(_audit_headline(failed), tuple(sentences), "none")
    if not report.models:
        return Verdict("The study has no model.", tuple(sentences), "none")
    name = plain(report.models[0].name)
    return Verdict(f"{name} was measured on its own: no candidate, so nothing is compared.", tuple(sentences), "none")


def _portrait(report: ReportInput, page: ModelPage) -> str:
    """One sentence about a model that is compared with nothing."""
    rows = report.own_metrics(page.name).filter(pl.col("layer").is_null() & pl.col("value").is_finite())
    found = {row["metric"]: row for row in rows.iter_rows(named=True)}
    parts = []
    for metric, words in (
        ("nll", "next-token loss"),
        ("selection_recall", "selection recall"),
        ("oracle_recall", "oracle recall"),
        ("normalized_entropy", "normalised entropy"),
    ):
        if metric in found:
            row = found[metric]
            places = decimals((known(row["ci_low"]), known(row["ci_high"])), known(row["value"]))
            interval = span(row["ci_low"], row["ci_high"], row["unit"], places)
            shown = f" ({percent(report.confidence)} CI {interval})" if interval != "–" else ""
            tail = "" if row["unit"] in _UNSPOKEN else f" {row['unit']}"
            parts.append(f"{words} {number(row['value'], row['unit'], places)}{tail}{shown}")
    kind = (
        ""
        if page.has_indexer
        else " It has no indexer, so its attention is described and nothing is said of selection."
    )
    return f"{plain(page.name)}: {_join(parts)}.{kind}" if parts else kind.strip()


def _failed_audits(report: ReportInput) -> list[str]:
    return [str(name) for name in report.causality.filter(pl.col("passed").eq_missing(False))["model"]]


def _audit_headline(failed: Sequence[str]) -> str:
    names = _join([plain(name) for name in failed])
    return (
        f"Do not use these numbers: {names} failed the causality audit, so later tokens leak into earlier predictions."
    )


def _failed_gates(report: ReportInput) -> str:
    failed = report.gates.filter(pl.col("passed").eq_missing(False))
    if failed.is_empty():
        return ""
    told = [
        f"{plain(row['name'])} ({plain(row['rule'])}; value {number(row['value'])})"
        for row in failed.iter_rows(named=True)
    ]
    return f"{failed.height} of {report.gates.height} gates failed: {_join(told)}."


def _limits(report: ReportInput) -> list[str]:
    """What a reader must know before quoting a number."""
    told = []
    warned = {warning.model for warning in warnings(report) if warning.kind != "audit"}
    for page in report.models:
        row = report.own_metrics(page.name).filter((pl.col("metric") == "in_effect") & pl.col("layer").is_null())
        share = known(row["value"][0]) if row.height else None
        if share is not None and page.name not in warned:
            told.append(
                f"The indexer of {plain(page.name)} is in effect for {percent(share)} of the queries; "
                "recall and overlap count those only."
            )
    dense = [plain(page.name) for page in report.models if not page.has_indexer]
    if dense and report.candidates:
        told.append(f"Without an indexer, so nothing is said of a selection: {_join(dense)}.")
    if 0 < report.samples < FEW_SAMPLES:
        told.append(f"Only {report.samples} samples: bootstrap intervals from so few are themselves uncertain.")
    unaudited = set(page.name for page in report.models) - set(report.causality.drop_nulls("passed")["model"])
    if unaudited:
        names = [plain(page.name) for page in report.models if page.name in unaudited]
        told.append(f"Not audited for causality: {_join(names)}.")
    return told


def _join(parts: Sequence[str]) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return ", ".join(parts[:-1]) + " and " + parts[-1]
