"""The differences between two sides, told: a table for people, Markdown for a pull request, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from indexscope import IndexscopeError
from indexscope.analysis.diff.choice import narrowed
from indexscope.analysis.diff.definitions import defined
from indexscope.analysis.diff.pairs import chosen_pairs, matched, within
from indexscope.analysis.diff.premises import premises, same_data
from indexscope.analysis.diff.rows import diff, paired_rows
from indexscope.analysis.diff.rules import Outcome, check_rules
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.names import plain
from indexscope.analysis.report.difference import (
    Block,
    Line,
    blocks,
    headline,
    interval_title,
    left_out,
    markdown_difference,
    pair_text,
    reading,
    unmatched,
)
from indexscope.analysis.report.numbers import count, known, number
from indexscope.analysis.settings import ComparisonSettings
from indexscope.flows.finished.compared import Compared
from indexscope.flows.tables import emit, fits, new_console, new_table, written

COLOURS = {"better": "green", "worse": "red", "different": "cyan", "leaks": "red"}
#: Columns that a narrow terminal goes without, the first first.
SPARED = ("n", "unit", "interval")
UNPAIRED = "* the two sides' own intervals taken as independent: too wide rather than too narrow"


@dataclass(frozen=True)
class Wanted:
    """What of a difference is shown, and how.

    Attributes:
        form: For whom.
        metrics: Metrics and families; none means headline metrics and what is better or worse.
        layers: Layers; none means the whole model.
        every_layer: Every layer as well as the whole model.
        models: Names of models, or "x=y".
        everything: Every metric.
    """

    form: Literal["table", "markdown", "json"] | str = "table"
    metrics: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    every_layer: bool = False
    models: tuple[str, ...] = ()
    everything: bool = False


@dataclass(frozen=True)
class _Told:
    """A difference and all that is said of it."""

    frame: pl.DataFrame
    warnings: list[str]
    notes: list[str]
    outcomes: list[Outcome]
    interval: str
    paired: bool


def print_differences(a: Compared, b: Compared, wanted: Wanted, rules: Sequence[str], *, alone: bool = False) -> int:
    """Print the differences of two sides, B minus A.

    Args:
        a: One side.
        b: The other; the same one where its candidates are compared with its baseline.
        wanted: What is shown.
        rules: Rules of ``--fail-on``; they look at every metric and layer, whatever is shown.
        alone: Whether there is only one side.

    Returns:
        1 if a rule holds, else 0.

    Raises:
        IndexscopeError: The sides have nothing in common, or what was asked for is not there.
    """
    with defined(a.report, b.report):
        told = _told(a, b, wanted, rules, alone)
        shown = narrowed(told.frame, wanted.metrics, wanted.layers)
        if wanted.form == "json":
            emit(_json(a, b, told, shown))
        else:
            if not wanted.layers and not wanted.every_layer:
                shown = shown.filter(pl.col("layer").is_null())
            kept = shown if wanted.everything or wanted.metrics else headline(shown)
            more = _more(told, shown, kept, wanted)
            found = blocks(kept)
            if wanted.form == "markdown":
                title = f"{plain(a.report['study'])} → {plain(b.report['study'])}" if not alone else a.report["study"]
                emit(markdown_difference(title, told.notes, told.warnings, found, more, told.interval))
            else:
                emit(_table(told, found, more))
        return int(any(outcome.fails for outcome in told.outcomes))


def _told(a: Compared, b: Compared, wanted: Wanted, rules: Sequence[str], alone: bool) -> _Told:
    pairs = within(a.report) if alone else matched(a.report, b.report)
    pairs = chosen_pairs(pairs, a.report, b.report, wanted.models)
    why = "" if alone else _unpairable(a, b)
    settings = _settings(b)
    samples_a, samples_b = a.models, b.models

    def paired(one: str, two: str) -> Mapping[tuple[str, int | None], Mapping[str, Any]]:
        assert samples_a is not None and samples_b is not None
        return paired_rows(samples_a[one], samples_b[two], settings)

    by_sample = not alone and not why
    frame = diff(a.report, b.report, pairs, paired if by_sample else None)
    both = frame.filter(pl.col("status") == "both")
    if both.is_empty():
        where, have = (a.source, "has") if alone else (f"{a.source} and {b.source}", "have")
        raise IndexscopeError(where, f"{have} no metric in common", "compare studies of the same kind of models")
    timed = any(REGISTRY[metric].kind == "timing" for metric in set(both["metric"]) if metric in REGISTRY)
    coverage = {_settings(side).confidence for side in (a, b)}
    return _Told(
        frame,
        premises(a.report, b.report, pairs, timed),
        _notes(a, b, both, why, alone),
        check_rules(rules, frame),
        interval_title(coverage.pop() if len(coverage) == 1 else None),
        alone or by_sample,
    )


def _notes(a: Compared, b: Compared, both: pl.DataFrame, why: str, alone: bool) -> list[str]:
    """What the sides are, and whether their samples were paired."""
    kinds = set(both["interval"].drop_nulls())
    if alone:
        notes = [f"{_side(a)}: candidates against the baseline, paired by sample"]
    else:
        notes = [f"A: {_side(a)}", f"B: {_side(b)}"]
        n, resamples = count(both.filter(interval="paired")["n"].max()), count(_settings(b).resamples)
        if not why:
            notes.append(f"paired by sample: {n} samples, {resamples} bootstrap resamples of both sides together")
        elif "paired" in kinds:
            notes.append(f"paired only where a report itself compares the two models: {why}")
        else:
            notes.append(f"not paired: {why}")
    return [*notes, *([UNPAIRED] if "independent" in kinds else [])]


def _unpairable(a: Compared, b: Compared) -> str:
    """Why samples cannot be paired; empty if they can."""
    for letter, side in (("A", a), ("B", b)):
        if side.lacking:
            return f"{letter} {side.lacking}; name its store to pair samples"
    same = same_data(a.report, b.report)
    return "" if same else "the two sides were not measured on the same samples"


def _settings(side: Compared) -> ComparisonSettings:
    provenance: Any = side.report["provenance"]
    try:
        return ComparisonSettings.model_validate(provenance["settings"]["comparison"])
    except (ValidationError, KeyError, TypeError):
        return ComparisonSettings()


def _side(side: Compared) -> str:
    created = side.report["provenance"].get("created")
    when = f", {plain(created)}" if isinstance(created, str) else ""
    return f"{plain(side.source)} ({plain(side.report['study'])}{when})"


def _more(told: _Told, shown: pl.DataFrame, kept: pl.DataFrame, wanted: Wanted) -> list[str]:
    """What is said after the tables: what was left out, what only one side has, and what the rules found."""
    more = [text] if (text := left_out(shown, kept)) else []
    lines = unmatched(kept if wanted.everything or wanted.metrics else shown)
    if lines and not (wanted.everything or wanted.metrics):
        names = shown.filter(pl.col("status") != "both")["metric"].n_unique()
        lines = [f"{names} {'metric' if names == 1 else 'metrics'} on one side only: --all names them"]
    more += lines
    for outcome in told.outcomes:
        if outcome.fails:
            place = "" if outcome.row["layer"] is None else f", layer {outcome.row['layer']}"
            why = "leaks, not judged" if outcome.leaks else number(outcome.value, signed=True)
            more.append(f"failed: {outcome.rule}: {pair_text(outcome.row)}{place}: {why}")
    if told.outcomes and not any(outcome.fails for outcome in told.outcomes):
        more.append(f"passed: none of {len({outcome.rule for outcome in told.outcomes})} rules holds")
    return more


def _table(told: _Told, found: Sequence[Block], more: Sequence[str]) -> str:
    console = new_console()
    for text in told.warnings:
        console.print(Text(f"warning: {text}", style="yellow"), soft_wrap=True)
    for text in told.notes:
        console.print(Text(text), soft_wrap=True)
    for block in found:
        console.print()
        console.print(Text(block.heading, style="bold"), soft_wrap=True)
        lines = [line for _, section in block.sections for line in section]
        spared: list[str] = [] if any(line.layer != "all" for line in lines) else ["layer"]
        made = _columns(block, told.interval, spared)
        for name in SPARED if console.is_terminal else ():
            if fits(console, made):
                break
            spared.append(name)
            made = _columns(block, told.interval, spared)
        console.print(made)
        if gone := [name for name in spared if name in SPARED]:
            console.print(Text(f"a wider terminal, a pipe or --json shows {', '.join(gone)} too", style="dim"))
    if more:
        console.print()
    for text in more:
        style = "red" if text.startswith("failed:") else "green" if text.startswith("passed:") else ""
        console.print(Text(text, style=style), soft_wrap=True)
    return written(console)


def _columns(block: Block, interval: str, spared: Sequence[str]) -> Table:
    titles = {
        "metric": "metric",
        "layer": "layer",
        "unit": "unit",
        "a": "A",
        "b": "B",
        "difference": "B − A",
        "interval": interval,
        "n": "n",
        "reading": "reading",
    }
    kept = [name for name in titles if name not in spared]
    table = new_table(*(titles[name] for name in kept))
    for title, lines in block.sections:
        table.add_row(Text(title, style="italic dim"))
        for line in lines:
            table.add_row(*(_cell(line, name) for name in kept))
    return table


def _cell(line: Line, name: str) -> Text:
    text: str = getattr(line, name)
    return Text(
        f"  {text}" if name == "metric" else text, style=COLOURS.get(line.kind, "") if name == "reading" else ""
    )


def _json(a: Compared, b: Compared, told: _Told, shown: pl.DataFrame) -> str:
    rows = []
    for row in shown.iter_rows(named=True):
        numbers = {key: known(value) for key, value in row.items() if isinstance(value, float)}
        better = REGISTRY[row["metric"]].better if row["metric"] in REGISTRY else "neither"
        rows.append({**row, **numbers, "direction": better, "reading": reading(row)[0]})
    outcomes = [
        {
            "rule": outcome.rule,
            **{key: outcome.row[key] for key in ("role", "model_a", "model_b", "metric", "layer")},
            "value": known(outcome.value),
            "holds": outcome.holds,
            "leaks": outcome.leaks,
        }
        for outcome in told.outcomes
    ]
    content = {
        **{letter: {"source": side.source, "study": side.report["study"]} for letter, side in (("a", a), ("b", b))},
        "warnings": told.warnings,
        "notes": told.notes,
        "paired": told.paired,
        "differences": rows,
        "rules": outcomes,
        "failed": list(dict.fromkeys(outcome.rule for outcome in told.outcomes if outcome.fails)),
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"
