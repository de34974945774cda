"""Measured time and memory, where sparse attention pays, and which heads keep quality at least cost."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from matplotlib.figure import Figure

from indexscope.analysis.efficiency.reference import DEEPSEEK_V32, THIS
from indexscope.analysis.plots.measured import patterns_front, time_and_memory
from indexscope.analysis.report.numbers import count, known, number, percent, span
from indexscope.analysis.report.panels.panel import Frames, Panel, TextTable

EMPTY = pl.DataFrame()


def _words(frames: Frames) -> Sequence[str]:
    return [*_time(frames.get("latency", EMPTY)), *_pays(frames), *_patterns(frames.get("patterns_pareto", EMPTY))]


def _time(latency: pl.DataFrame) -> list[str]:
    if "time_share" not in latency.columns:
        return []
    indexer = latency.filter(pl.col("component") == "indexer").sort("length")
    if indexer.is_empty() or indexer["time_share"].null_count():
        return []
    first, last = indexer.row(0, named=True), indexer.row(-1, named=True)
    sentence = f"The indexers take {percent(last['time_share'])} of the model's time at {count(last['length'])} tokens"
    if first["length"] != last["length"]:
        sentence += f", {percent(first['time_share'])} at {count(first['length'])}"
    inside = latency.filter((pl.col("component") == "selection") & (pl.col("length") == last["length"]))
    if inside.height and inside["ms"][0] is not None and last["ms"]:
        sentence += f"; topk is {percent(inside['ms'][0] / last['ms'])} of that"
    return [f"{sentence}. These are times of transformers' reference code on this machine, not of a fused kernel."]


def _pays(frames: Frames) -> list[str]:
    lengths = dict(frames["break_even"].select("dimensions", "length").iter_rows()) if "break_even" in frames else {}
    if THIS not in lengths:
        return []
    own, published = lengths[THIS], lengths.get(DEEPSEEK_V32)
    here = (
        f"Indexer and sparse attention need fewer operations than dense attention from {count(own)} tokens on"
        if own is not None
        else "Indexer and sparse attention need more operations than dense attention at every length"
    )
    there = f"; at the dimensions of DeepSeek-V3.2 from {count(published)}" if published is not None else ""
    return [f"{here}{there} (by formula, one prefill).", *_projected(frames.get("projection", EMPTY))]


def _projected(projection: pl.DataFrame) -> list[str]:
    if "dimensions" not in projection.columns:
        return []
    longest = projection.filter((pl.col("dimensions") == THIS) & (pl.col("length") == pl.col("length").max()))
    parts = dict(longest.select("component", "flops").iter_rows())
    if not {"indexer", "attention", "dense_attention"} <= parts.keys() or not parts["dense_attention"]:
        return []
    total = parts["indexer"] + parts["attention"]
    return [
        f"Projected to {count(longest['length'][0])} tokens they need {percent(total / parts['dense_attention'])} of "
        f"the operations of dense attention, of which the indexers {percent(parts['indexer'] / total)}."
    ]


def _patterns(patterns: pl.DataFrame) -> list[str]:
    if patterns.is_empty():
        return []
    heads = patterns.filter(pl.col("level") == "head")
    front = heads.filter(pl.col("on_front")).sort("cost")
    if front.is_empty():
        return []
    cheapest, best = front.row(0, named=True), front.row(-1, named=True)
    worst = heads.sort("quality").row(0, named=True)
    sentence = (
        f"Of {heads.height} heads {front.height} are on the front of recall against keys needed: from "
        f"{_named(cheapest)} ({percent(cheapest['cost'])} of the keys, recall {number(cheapest['quality'])}) to "
        f"{_named(best)} ({percent(best['cost'])}, {number(best['quality'])})."
    )
    if known(worst["quality"]) is None:
        return [sentence]
    return [
        sentence,
        f"The selection serves {_named(worst)} least: recall {number(worst['quality'])} "
        f"({span(worst['quality_low'], worst['quality_high'])}, n = {worst['n']} samples).",
    ]


def _named(row: dict[str, object]) -> str:
    return f"layer {row['layer']} head {row['head']}"


def _draw(frames: Frames) -> Sequence[tuple[Figure, str, str]]:
    found = []
    if "latency" in frames and (figure := time_and_memory(frames["latency"])) is not None:
        caption = (
            "Left, the share of the model's time that each part takes (selection, the topk, is part of the indexer; "
            "attention is without its indexer). Right, the largest memory of one call above what was alive before it."
        )
        found.append((figure, "Time and memory by context length", caption))
    if "patterns_pareto" in frames and (figure := patterns_front(frames["patterns_pareto"])) is not None:
        caption = (
            "Queries in effect only. Filled points are on the Pareto front: nothing else needs as few keys and keeps "
            "as much; hollow ones are beaten in both. Differences within the intervals of the table mean little."
        )
        found.append((figure, "What keeps quality at least cost", caption))
    return found


def _tables(frames: Frames) -> Sequence[TextTable]:
    patterns = frames.get("patterns_pareto", EMPTY)
    if patterns.is_empty():
        return []
    rows = patterns.filter(pl.col("level") != "head")
    return [
        TextTable(
            "Layers and pattern types: keys needed for 95 % of the attention, recall and output error under the "
            "model's selection, with intervals over samples",
            ("of", "keys needed", "interval", "recall", "interval", "output error", "on the front", "samples"),
            tuple(
                (
                    f"layer {row['layer']}" if row["level"] == "layer" else str(row["pattern_type"]),
                    percent(row["cost"]) if row["cost"] is not None else number(None),
                    span(row["cost_low"], row["cost_high"]),
                    number(row["quality"]),
                    span(row["quality_low"], row["quality_high"]),
                    number(row["output_error"]),
                    "yes" if row["on_front"] else "no",
                    count(row["n"]),
                )
                for row in rows.iter_rows(named=True)
            ),
            open=False,
        )
    ]


PANEL = Panel(
    analysis="efficiency",
    order=65,
    title="Where time and memory go, and what is worth it",
    about=(
        "Time and memory are measured with the model's own code, operations are by formula. A head is worth its cost "
        "where few keys hold its attention and the selection has them."
    ),
    words=_words,
    draw=_draw,
    tables=_tables,
)
