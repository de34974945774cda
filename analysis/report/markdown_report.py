"""report.md: the report's words and tables for a pull request, an issue or a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from analysis.report.inputs import ReportInput
from analysis.report.names import markdown, plain
from analysis.report.numbers import count, known, number, percent
from analysis.report.over_time import PLACE
from analysis.report.tables import Compared, Measured, comparison_sections, dropped, measured_sections
from analysis.report.verdict import verdict


def build_markdown(report: ReportInput) -> str:
    """The report as GitHub-flavoured Markdown; names and rules are shown as text, whatever they contain."""
    words = verdict(report)
    blocks = [f"# {markdown(plain(report.study))}", f"**{markdown(words.headline)}**"]
    if words.warnings:
        # A blank quoted line between two of them keeps them apart.
        blocks.append("\n>\n".join(f"> **Warning:** {markdown(warning.text)}" for warning in words.warnings))
    if words.sentences:
        blocks.append("\n".join(f"- {markdown(sentence)}" for sentence in words.sentences))
    blocks += ["## Causality audit and gates", _audits(report), _gates(report)]
    for page in report.candidates:
        blocks += [f"## {markdown(plain(page.name))} against the baseline", *_comparison(report, page.name)]
    for page in report.models if not report.candidates else []:
        blocks += [f"## {markdown(plain(page.name))}", *_metrics(report, page.name)]
    blocks += [PLACE, "## Models", _models(report)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _audits(report: ReportInput) -> str:
    if report.causality.is_empty():
        return "No model was audited."
    words = {True: "passed", False: "**failed**", None: "not audited"}
    rows = [
        (markdown(plain(row["model"])), words[row["passed"]], number(row["max_logit_change"]))
        for row in report.causality.iter_rows(named=True)
    ]
    return _table(("model", "causality", "largest change of an earlier logit"), rows, "llr")


def _gates(report: ReportInput) -> str:
    if report.gates.is_empty():
        return "No gates were set."
    words = {True: "passed", False: "**failed**", None: "not evaluated"}
    rows = [
        (markdown(plain(row["name"])), markdown(row["rule"]), number(row["value"]), words[row["passed"]])
        for row in report.gates.iter_rows(named=True)
    ]
    return _table(("gate", "rule", "value", "result"), rows, "llrl")


def _comparison(report: ReportInput, candidate: str) -> list[str]:
    heads = (
        "metric",
        "unit",
        "baseline",
        "candidate",
        "difference",
        f"{percent(report.confidence)} CI",
        "n",
        "reading",
    )
    blocks = []
    for section in comparison_sections(report, candidate):
        rows = [_compared(row) for row in section.rows]
        blocks += [f"### {markdown(section.title)}", _table(heads, rows, "llrrrrrl")]
    ours, theirs = dropped(report, candidate)
    for names, whose in ((ours, "the baseline"), (theirs, "the candidate")):
        if names:
            blocks.append(f"Measured for {whose} only, so not compared: {', '.join(map(markdown, names))}.")
    return blocks or ["Nothing could be compared."]


def _compared(row: Compared) -> tuple[str, ...]:
    reading = f"{row.judgement.arrow} {row.judgement.word}".strip()
    name = markdown(row.metric)
    return name, markdown(row.unit), row.baseline, row.value, row.difference, row.interval, row.n, reading


def _metrics(report: ReportInput, model: str) -> list[str]:
    heads = ("metric", "unit", "value", f"{percent(report.confidence)} CI", "n")
    blocks = []
    for section in measured_sections(report, model):
        rows = [_measured(row) for row in section.rows]
        blocks += [f"### {markdown(section.title)}", _table(heads, rows, "llrrr")]
    return blocks or ["No metrics."]


def _measured(row: Measured) -> tuple[str, ...]:
    return markdown(row.metric), markdown(row.unit), row.value, row.interval, row.n


def _models(report: ReportInput) -> str:
    rows = []
    for page in report.models:
        facts = page.facts
        indexer = "none"
        if page.has_indexer:
            heads, dim, topk = (count(facts.get(key)) for key in ("indexer_heads", "indexer_dim", "index_topk"))
            indexer = f"{heads} heads × {dim}, top {topk}"
        parameters = number(known(facts.get("parameters")), "parameters")
        cells = (page.role, markdown(facts.get("family") or "–"), parameters, indexer, f"`{_code(page.fingerprint)}`")
        rows.append((markdown(plain(page.name)), *cells))
    return _table(("model", "role", "family", "parameters", "indexer", "fingerprint"), rows, "lllrll")


def _code(text: str) -> str:
    return "".join(character for character in text if character.isalnum() or character in "-_:.")[:80] or "–"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], sides: str) -> str:
    lines = ["| " + " | ".join(heads) + " |"]
    lines.append("|" + "|".join(" ---: " if side == "r" else " :--- " for side in sides) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
