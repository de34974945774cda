"""Evidence that is selected or missed, answers that are given or lost, and whether the one explains the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from indexscope.analysis.evidence.figures import evidence_maps, keys_needed, kind_maps
from indexscope.analysis.evidence.tables import NEEDED
from indexscope.analysis.metrics.registry import label
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import DASH, count, known, percent
from indexscope.analysis.report.overlaid import overlaid
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, Passage, TextTable, Token
from indexscope.analysis.report.spoken import share, with_interval

Row = Mapping[str, Any]
_TABLED = (
    "evidence_selected",
    "evidence_kept_whole",
    "evidence_least_selected",
    "evidence_attention",
    "evidence_attention_kept",
    "evidence_worst_rank",
    "answer_nll",
    "answer_exact",
    "dense_answer_exact",
    "answers_lost",
)
_PASSAGES = 3


def overall(frames: Frames) -> dict[str, Row]:
    """The metrics over all samples, by name, where they are known."""
    cells = frames.get("evidence_cells")
    if cells is None:
        return {}
    rows = cells.filter(pl.all_horizontal(pl.col("kind", "length", "depth").is_null()) & pl.col("value").is_not_null())
    return {row["metric"]: row for row in rows.iter_rows(named=True)}


def words(frames: Frames) -> list[str]:
    """What is selected, what is answered, whether it was the indexer, and what cannot be told and why."""
    rows, found = overall(frames), list[str]()
    if "evidence_selected" in rows:
        least, chance = rows.get("evidence_least_selected"), rows.get("evidence_by_chance")
        found.append(
            f"The answers' queries select {share(rows['evidence_selected'])} of the evidence tokens"
            + (f", {percent(chance['value'])} by chance" if chance else "")
            + (f"; in the layer that selects least of it {share(least)}" if least else "")
            + f" (n = {count(rows['evidence_selected']['n'])} samples)."
        )
        if kept := rows.get("evidence_attention_kept"):
            found.append(f"Of the dense attention on evidence, {share(kept)} is on tokens that are selected.")
    elif rows:
        found.append("The model selects nothing: every key is attended to, and no evidence can be missed.")
    if "answer_exact" in rows:
        dense = rows.get("dense_answer_exact")
        found.append(
            f"{share(rows['answer_exact'])} of the answers are exact"
            + (f", {share(dense)} with every key selected" if dense else "")
            + f"; the loss on their tokens is {with_interval(rows['answer_nll'], unit=' nats')}."
        )
    found += was_it(frames)
    needed = frames.get("evidence_keys")
    if needed is not None:
        longest = needed.filter(pl.col("length") == needed["length"].max()).sort("share")
        told = [f"{count(row['keys'])} in {percent(row['share'])}" for row in longest.iter_rows(named=True)]
        found.append(
            f"Keys that would have kept all evidence at length {count(longest['length'][0])}: {', '.join(told)} of "
            "samples and layers."
        )
    elif "evidence_selected" in rows:
        found.append("There are no ranks of evidence: its layers have no index scores of single tokens.")
    if "evidence_selected" in rows and "evidence_attention" not in rows:
        found.append("There is no attention on evidence: keys are entries that many tokens went into.")
    return found


def was_it(frames: Frames) -> list[str]:
    """Whether answers that the selection loses lack their evidence, beside those that it keeps."""
    outcomes = frames.get("answer_outcomes")
    if outcomes is None:
        return []
    rows = {row["outcome"]: row for row in outcomes.iter_rows(named=True)}
    right, lost, gained = (rows[name] for name in ("both right", "lost", "gained"))
    of = right["n"] + lost["n"]
    if not of:
        return ["Was it the indexer? With every key selected no answer is exact either: none could be lost."]
    if not lost["n"]:
        return [f"Was it the indexer? None of the {count(of)} answers that are exact with every key is lost."]
    told = (
        f"Was it the indexer? Of {count(of)} answers that are exact with every key, {count(lost['n'])} "
        f"{'is' if lost['n'] == 1 else 'are'} lost with the selection, and {count(gained['n'])} "
        f"{'other is' if gained['n'] == 1 else 'others are'} gained"
    )
    if known(lost["missing"]) is None:
        return [f"{told}."]
    kept = f", beside {percent(right['missing'])} of those that are kept" if known(right["missing"]) is not None else ""
    return [
        f"{told}. The evidence of {share_of(lost, 'missing')} of the lost ones was missing{kept}; their selections "
        f"hold {_held(lost)}"
        + ("" if known(right["selected"]) is None else f", those of answers that are kept {_held(right, short=True)}")
        + "."
    ]


def _held(row: Row, short: bool = False) -> str:
    """What of the attention on the evidence is kept; where attention is unknown, what of the evidence is selected."""
    if known(row["attention_kept"]) is None:
        return share_of(row, "selected") + ("" if short else " of it")
    return share_of(row, "attention_kept") + ("" if short else " of the attention on it")


def share_of(row: Row, name: str) -> str:
    """A share of a row of outcomes with its interval."""
    return share(row, name, (f"{name}_ci_low", f"{name}_ci_high"))


def draw(frames: Frames) -> list[Drawn]:
    """Maps of each kind of question, and the keys needed."""
    cells, needed = frames.get("evidence_cells"), frames.get("evidence_keys")
    return [
        Drawn(
            "evidence-kinds",
            "Evidence held and exact answers by kind of question",
            "By the length of the samples and the depth at which their farthest evidence begins.",
            None if cells is None else kind_maps(cells),
        ),
        Drawn(
            "evidence-keys",
            "Keys that would have kept all evidence",
            "Quantiles over samples and layers; bands are intervals from a bootstrap over samples.",
            None if needed is None else keys_needed({"": needed}, [""]),
        ),
    ]


def across(report: ReportInput) -> list[Drawn]:
    """Depth by length of all models."""
    cells = report.frames("evidence", "evidence_cells")
    if not cells:
        return []
    figure = evidence_maps(cells, overlaid(report))
    caption = (
        "From above: the share of the evidence's tokens that the answers' queries select, what of the dense attention "
        "on them is on selected ones, and the share of answers of which every token is the likeliest, each model with "
        "its own selection. By the length of the samples and by "
        "where their farthest evidence begins, of all that precedes the answer; grey: no such sample."
    )
    return [Drawn("evidence", "Evidence and answers by depth and length", caption, figure)]


def tables(frames: Frames) -> list[TextTable]:
    """Outcomes, and values by kind and length."""
    found = []
    if (outcomes := frames.get("answer_outcomes")) is not None:
        lines = tuple(
            (
                row["outcome"],
                count(row["n"]),
                *(DASH if known(row[name]) is None else share_of(row, name) for name in _OUTCOME),
            )
            for row in outcomes.iter_rows(named=True)
        )
        heads = (
            "answer",
            "n (samples)",
            "share",
            "evidence selected",
            "evidence missing",
            "attention on evidence kept",
        )
        caption = "Answers with the selection beside those with every key; lost: exact with every key only"
        found.append(TextTable(caption, heads, lines))
    cells = frames.get("evidence_cells")
    if cells is not None:
        for by in ("length", "kind"):
            found += [table for table in [_by(cells, by)] if table is not None]
    return found


_OUTCOME = ("share", "selected", "missing", "attention_kept")


def _by(cells: pl.DataFrame, by: str) -> TextTable | None:
    others = [name for name in ("kind", "length", "depth") if name != by]
    rows = cells.filter(pl.col(by).is_not_null() & pl.all_horizontal(pl.col(*others).is_null()))
    metrics = [name for name in _TABLED if name in set(rows["metric"])]
    if not metrics:
        return None
    lines = []
    for (value,), own in rows.sort(by, maintain_order=True).group_by(by, maintain_order=True):
        of = {row["metric"]: row for row in own.iter_rows(named=True)}
        first = count(value) if by == "length" else str(value).replace("_", " ")
        texts = (with_interval(of[name]) if name in of else DASH for name in metrics)
        lines.append((first, *texts, count(max(row["n"] for row in of.values()))))
    heads = ("length (tokens)" if by == "length" else "question", *map(label, metrics), "n (samples)")
    return TextTable(
        f"Evidence and answers by {'length' if by == 'length' else 'kind of question'}", heads, tuple(lines), False
    )


def passages(frames: Frames) -> list[Passage]:
    """At most three answers that were lost, in their text."""
    shown = frames.get("lost_answers")
    if shown is None:
        return []
    parts = shown.partition_by("sample", maintain_order=True)
    return [_passage(part.sort("position")) for part in parts[:_PASSAGES]]


def _passage(rows: pl.DataFrame) -> Passage:
    first = rows.row(0, named=True)
    kind = f"{first['kind'].replace('_', ' ')}, " if first["kind"] else ""
    attention = known(first["attention_kept"])
    kept = "" if attention is None else f", with {percent(attention)} of the attention on it"
    fate = "exact with every key and not with the selection" if first["lost"] else "not exact"
    caption = (
        f"Sample {first['sample']} ({kind}{count(first['length'])} tokens, evidence from {percent(first['depth'])} "
        f"on): its answer is {fate}; {percent(first['selected'])} of its evidence is selected{kept}. Evidence is "
        "underlined, darker the more layers and queries select it; tokens of the answer that the model has wrong are "
        "outlined."
    )
    tokens, before = [], None
    for row in rows.iter_rows(named=True):
        gap = row["position"] > 0 if before is None else row["position"] > before + 1
        wrong = row["role"] == "answer" and row["right"] is False
        tokens.append(Token(row["token"], known(row["kept"]) or 0.0, row["role"] == "evidence", wrong, gap))
        before = row["position"]
    return Passage(caption, tuple(tokens))


def charts(frames: Frames) -> list[Chart]:
    """Keys that would have kept all evidence, by length."""
    rows = _by_lengths(frames)
    if rows.is_empty():
        return []
    places = {length: place for place, length in enumerate(sorted(rows["length"].unique()))}
    return [
        Chart(
            "Keys that would have kept all evidence, by length",
            "Fewest keys with which a layer keeps all evidence at every query of an answer, in that share of samples "
            "and layers. Bands are the intervals.",
            "line",
            rows.select(
                *("keys", "ci_low", "ci_high"),
                of=pl.format("{} % of samples and layers", (100 * pl.col("share")).round().cast(pl.Int32)),
                length=pl.col("length").cast(pl.String),
                place=pl.col("length").replace_strict(places, return_dtype=pl.Int32),
            ),
            x="place",
            xlabel="length (tokens, log)",
            labels="length",
            y="keys",
            ylabel="keys",
            series="of",
            log=True,
        )
    ]


def brief(frames: Frames) -> TextTable | None:
    """The metrics over all samples, then the keys needed by length."""
    rows = overall(frames)
    lines = tuple((label(name), with_interval(rows[name]), count(rows[name]["n"])) for name in _TABLED if name in rows)
    needed = _by_lengths(frames)
    for row in needed.filter(pl.col("share") == pl.col("share").max()).iter_rows(named=True):
        held = f"keys that keep all evidence in {percent(row['share'])} of samples and layers"
        lines += ((f"{held}, length {count(row['length'])}", with_interval(row, "keys"), count(row["n"])),)
    return TextTable("evidence and answers", ("metric", "value (CI)", "n (samples)"), lines) if lines else None


def _by_lengths(frames: Frames) -> pl.DataFrame:
    """Keys that would have kept all evidence, of the lengths there are, with what share of samples and layers."""
    needed = frames.get("evidence_keys", NEEDED.empty())
    return needed.filter(pl.col("length").is_not_null() & pl.col("keys").is_not_null()).sort("length", "share")


PANEL = Panel(
    analysis="evidence",
    order=25,
    chapter="misses",
    title="Evidence and answers",
    about=(
        "The data mark answers and the evidence that they need. An answer's queries are the positions that predict "
        "its tokens, each given all true tokens before it; nothing is generated, and an answer is exact if each of "
        "its tokens is the likeliest at its place. Few layers look at the evidence, and the others need not select "
        "it. So evidence is missing where less than half of the attention on it, over all layers, or what "
        "analyses.evidence.missing says, is on selected tokens (where attention is unknown, where less than that of it "
        "is selected): that a lost answer's evidence was missing tells more the rarer it is among answers that were "
        "kept."
    ),
    words=words,
    draw=draw,
    tables=tables,
    passages=passages,
    charts=charts,
    brief=brief,
    across=across,
    json={
        "evidence_cells": ("metric", "kind", "length", "depth", "value", "ci_low", "ci_high", "n"),
        "answer_outcomes": ("outcome", "n", "share", "selected", "missing", "attention_kept"),
        "evidence_keys": ("length", "share", "keys", "ci_low", "ci_high", "n"),
    },
)
