"""The differences between two reports as finished text: rows for a terminal, and Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from indexscope.analysis.leaks import LEAKS, marked
from indexscope.analysis.metrics.headline import HEADLINE
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.names import markdown, plain
from indexscope.analysis.report.catalogue import grouped
from indexscope.analysis.report.judgement import Kind, judge
from indexscope.analysis.report.markdown_table import table
from indexscope.analysis.report.numbers import count, digits, known, percent
from indexscope.analysis.statistics.margins import ROUNDING

#: The words of a reading; "higher" and "lower" stand for a metric without a better direction.
_WORDS: Mapping[Kind, str] = {
    "better": "better",
    "worse": "worse",
    "different": "",
    "equivalent": "equivalent",
    "inconclusive": "inconclusive",
    "uncertain": "no interval",
    "same": "unchanged",
    "missing": "not comparable",
    "other k": "not judged, k differs",
    "leaks": f"{LEAKS}, not judged",
}
_ESTABLISHED = ("better", "worse", "different")


@dataclass(frozen=True)
class Line:
    """One row of the differences as text.

    Attributes:
        metric: Name of the metric.
        layer: Its layer, or "all".
        unit: Its unit.
        a: Value of A.
        b: Value of B.
        difference: B - A, signed.
        interval: Confidence interval of the difference, marked where it is not paired by sample, or a dash.
        n: Samples, or repeats of a timing.
        kind: How the difference is read.
        reading: The same in words, with an arrow where a direction is established.
    """

    metric: str
    layer: str
    unit: str
    a: str
    b: str
    difference: str
    interval: str
    n: str
    kind: Kind
    reading: str


@dataclass(frozen=True)
class Block:
    """The lines of one pair of models under a heading, in the families of their metrics."""

    heading: str
    sections: tuple[tuple[str, tuple[Line, ...]], ...]


def reading(row: Mapping[str, Any]) -> tuple[Kind, str]:
    """How a difference is read, and in words: an arrow only where more than chance and rounding is established."""
    a, b, kind = known(row["a"]), known(row["b"]), REGISTRY[row["metric"]].kind if row["metric"] in REGISTRY else ""
    judged = judge(row)
    found = judged.kind
    exact = kind == "count"
    if found == LEAKS:
        return found, _WORDS[found]
    if found != "missing" and a is not None and b is not None and not exact:
        found = "same" if abs(b - a) <= ROUNDING * max(abs(a), abs(b)) else found
    if found == "uncertain" and exact:
        found = "different"  # counted, so it differs, and the metric has no better direction
    if kind == "timing" and found == "different":
        return found, f"{judged.arrow} {judged.direction}, not judged"
    if found not in _ESTABLISHED:
        return found, _WORDS[found]
    return found, f"{judged.arrow} {_WORDS[found] or judged.direction}"


def names(row: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The two models of a row as they are shown: with the word "leaks" where one does."""
    a, b = row["model_a"], row["model_b"]
    in_a, in_b = (row["leaks"] in (side, "both") for side in ("a", "b"))
    return None if a is None else marked(plain(a), in_a), None if b is None else marked(plain(b), in_b)


def pair_text(row: Mapping[str, Any]) -> str:
    """The two models of a row in words, once where they are called the same."""
    a, b = names(row)
    return f"{a} → {b}" if a and b and a != b else str(a or b)


def headline(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that a reader asks for first: the headline metrics, and whatever is established as better or worse."""
    kept = [row["metric"] in HEADLINE or reading(row)[0] in ("better", "worse") for row in frame.iter_rows(named=True)]
    return frame.filter(pl.Series(kept, dtype=pl.Boolean))


def left_out(frame: pl.DataFrame, kept: pl.DataFrame) -> str:
    """What the rows that are kept leave out, in words; empty where that is nothing."""
    rest = frame.filter(pl.col("status") == "both").join(kept, on="metric", how="anti")
    metrics = rest["metric"].n_unique()
    if not metrics:
        return ""
    differ = {row["metric"] for row in rest.iter_rows(named=True) if reading(row)[0] in _ESTABLISHED}
    neutral = f", {len(differ)} of which differ with no better direction" if differ else ""
    return f"{metrics} more {'metric' if metrics == 1 else 'metrics'}{neutral}: --all shows them"


def blocks(frame: pl.DataFrame) -> list[Block]:
    """The rows that both sides have, pair by pair."""
    found = []
    both = frame.filter(pl.col("status") == "both")
    for (role, _, _), rows in both.group_by("role", "model_a", "model_b", maintain_order=True):
        heading = pair_text(rows.row(0, named=True))
        by_metric: dict[str, list[dict[str, Any]]] = {}
        for row in rows.sort("layer", nulls_last=False, maintain_order=True).iter_rows(named=True):
            by_metric.setdefault(row["metric"], []).append(row)
        sections = tuple(
            (group.title, tuple(_line(row) for metric in group.metrics for row in by_metric[metric]))
            for group in grouped(by_metric)
        )
        found.append(Block(f"{heading} ({role})", sections))
    return found


def unmatched(frame: pl.DataFrame) -> list[str]:
    """What only one side has, a sentence each: models without a partner, and metrics."""
    told = []
    alone = frame.filter(pl.col("status") != "both")
    for (status, a, b), rows in alone.group_by("status", "model_a", "model_b", maintain_order=True):
        side = f"only in {str(status)[-1].upper()}"
        if a is None or b is None:
            told.append(f"{side}: {pair_text(rows.row(0, named=True))}, with no model to compare it with")
        else:
            metrics = rows["metric"].unique(maintain_order=True).to_list()
            told.append(f"{side}, for {pair_text(rows.row(0, named=True))}: {', '.join(map(plain, metrics))}")
    return told


def interval_title(confidence: float | None) -> str:
    """The heading of the intervals; None where the two sides' differ in coverage."""
    return "CI" if confidence is None else f"{percent(confidence)} CI"


def markdown_difference(
    title: str,
    notes: Sequence[str],
    warnings: Sequence[str],
    found: Sequence[Block],
    more: Sequence[str],
    interval: str,
) -> str:
    """The differences as GitHub-flavoured Markdown; names are shown as text, whatever they contain.

    Args:
        title: Heading.
        notes: What the two sides are, and how intervals were made.
        warnings: What must be known first.
        found: The pairs of models.
        more: What is to be said after them: what was left out, and rules that failed.
        interval: Heading of the intervals.
    """
    parts = [f"## {markdown(title)}"]
    if warnings:
        parts.append("\n>\n".join(f"> **Warning:** {markdown(text)}" for text in warnings))
    parts.append("\n".join(f"- {markdown(text)}" for text in notes))
    heads = ("metric", "layer", "unit", "A", "B", "B − A", interval, "n", "reading")
    for block in found:
        lines = [line for _, section in block.sections for line in section]
        layered = any(line.layer != "all" for line in lines)
        cells = [[markdown(cell) for cell in _cells(line)] for line in lines]
        kept = [place for place, head in enumerate(heads) if layered or head != "layer"]
        sides = "".join("lrlrrrrrl"[place] for place in kept)
        rows = [[row[place] for place in kept] for row in cells]
        parts += [f"### {markdown(block.heading)}", table([heads[place] for place in kept], rows, sides)]
    parts.append("\n".join(f"- {markdown(text)}" for text in more))
    return "\n\n".join(part for part in parts if part) + "\n"


def _cells(line: Line) -> tuple[str, ...]:
    return line.metric, line.layer, line.unit, line.a, line.b, line.difference, line.interval, line.n, line.reading


def _line(row: Mapping[str, Any]) -> Line:
    unit = plain(row["unit"]) if row["unit"] else ""
    style = digits(unit, (row["a"], row["b"], row["difference"]), (row["ci_low"], row["ci_high"]))
    bounds = style.span(row["ci_low"], row["ci_high"], signed=True)
    kind, words = reading(row)
    return Line(
        metric=plain(row["metric"]),
        layer="all" if row["layer"] is None else str(row["layer"]),
        unit=unit,
        a=style.number(row["a"]),
        b=style.number(row["b"]),
        difference=style.number(row["difference"], signed=True),
        interval=f"{bounds} *" if row["interval"] == "independent" else bounds,
        n=count(row["n"]),
        kind=kind,
        reading=words,
    )
