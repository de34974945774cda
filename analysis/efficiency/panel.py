"""What indexer and attention cost, where sparse attention pays, and which heads keep quality at least cost."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.conventions import CONVENTIONS, EXPANDED, SERVED
from indexscope.analysis.efficiency.figures import cost_by_component, cost_by_length, patterns_front, time_and_memory
from indexscope.analysis.efficiency.reference import DEEPSEEK_V32, THIS
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import count, known, number, percent, percent_with_interval, span
from indexscope.analysis.report.overlaid import overlaid
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, TextTable

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
    return [f"{sentence}. These are times of the model's own code on this machine, not of a fused kernel."]


def _pays(frames: Frames) -> list[str]:
    rows = frames.get("conventions", EMPTY)
    if rows.is_empty():
        return []
    of = {(row["dimensions"], row["convention"]): row for row in rows.iter_rows(named=True)}
    served, expanded = (of[THIS, one.name]["break_even_length"] for one in (SERVED, EXPANDED))
    price = "cost more than dense attention at every length"
    if served is not None:
        price = f"cost less than dense attention from {count(served)} tokens on"
    other = f"from {count(expanded)} on" if expanded is not None else "at no length"
    published = of[DEEPSEEK_V32, SERVED.name], of[DEEPSEEK_V32, EXPANDED.name]
    there = " and ".join(count(row["break_even_length"]) for row in published)
    return [
        f"As served ({SERVED.meaning}), indexer and sparse attention {price}; counted as {EXPANDED.name} "
        f"({EXPANDED.meaning}) they cost less {other}. At the dimensions of DeepSeek-V3.2 these are {there} tokens "
        "(by formula, one prefill).",
        *_projected(_as_served(frames.get("projection", EMPTY))),
    ]


def _as_served(projection: pl.DataFrame) -> pl.DataFrame:
    """Rows of this checkpoint, as served."""
    if projection.is_empty():
        return projection
    return projection.filter((pl.col("dimensions") == THIS) & (pl.col("convention") == SERVED.name))


def _projected(projection: pl.DataFrame) -> list[str]:
    if projection.is_empty():
        return []
    longest = projection.filter(pl.col("length") == pl.col("length").max())
    parts = dict(longest.select("component", "flops").iter_rows())
    if not {"indexer", "attention", "dense_attention"} <= parts.keys() or not parts["dense_attention"]:
        return []
    total = parts["indexer"] + parts["attention"]
    return [
        f"Projected to {count(longest['length'][0])} tokens they cost, as served, "
        f"{percent(total / parts['dense_attention'])} of dense attention, of which the indexers "
        f"{percent(parts['indexer'] / total)}."
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


def _draw(frames: Frames) -> list[Drawn]:
    latency, patterns = frames.get("latency"), frames.get("patterns_pareto")
    return [
        Drawn(
            "time-and-memory",
            "Time and memory by context length",
            "Left, the share of the model's time that each part takes (selection, the topk, is part of the indexer; "
            "attention is without its indexer). Right, the largest memory of one call above what was alive before it.",
            None if latency is None else time_and_memory(latency),
        ),
        Drawn(
            "pareto",
            "What keeps quality at least cost",
            "Queries in effect only. Filled points are on the Pareto front: nothing else needs as few keys and keeps "
            "as much; hollow ones are beaten in both. Differences within the intervals of the table mean little.",
            None if patterns is None else patterns_front(patterns),
        ),
    ]


def _charts(frames: Frames) -> list[Chart]:
    latency, patterns = frames.get("latency", EMPTY), frames.get("patterns_pareto", EMPTY)
    found = []
    for column, title, about in (
        ("share", "Time by context length", "Share of the model's time in per cent; topk is part of the indexer."),
        ("mib", "Memory by context length", "Largest memory of one call in MiB above what was alive before it."),
    ):
        source = {"share": "time_share", "mib": "peak_bytes"}[column]
        if source in latency.columns:
            value = 100 * pl.col("time_share") if column == "share" else pl.col("peak_bytes") / 2**20
            parts = latency.filter((pl.col("component") != "model") | (column == "mib")).sort("component", "length")
            rows = parts.select("component", "length", value.alias(column)).drop_nulls()
            found.append(
                Chart(
                    title,
                    about,
                    "line",
                    rows,
                    x="length",
                    y=column,
                    series="component",
                    xlabel="context length (tokens)",
                    ylabel={"share": "%", "mib": "MiB"}[column],
                )
            )
    if not patterns.is_empty():
        heads = patterns.filter((pl.col("level") == "head") & pl.col("quality").is_not_null())
        rows = heads.select("layer", "head", "quality", keys=100 * pl.col("cost"), front="on_front").drop_nulls("keys")
        found.append(
            Chart(
                "What the heads of the layer need and keep",
                "Eligible keys that hold 95 % of a head's attention, and its recall under the model's selection.",
                "dots",
                rows.with_columns(front=pl.when("front").then(pl.lit("on the front")).otherwise(pl.lit("beaten"))).sort(
                    "front", "layer", "head"
                ),
                x="keys",
                y="quality",
                series="front",
                xlabel="keys needed (%)",
                ylabel="recall",
                digits=3,
            )
        )
    return found


def _tables(frames: Frames) -> Sequence[TextTable]:
    patterns = frames.get("patterns_pareto", EMPTY)
    if patterns.is_empty():
        return []
    rows = patterns.filter(pl.col("level") != "head")
    return [
        TextTable(
            "Layers and pattern types: share of the eligible keys needed for 95 % of the attention, recall (both in "
            "per cent) and output error under the model's selection, with intervals over samples",
            ("of", "keys needed", "CI", "recall", "CI", "output error", "on the front", "samples"),
            tuple(
                (
                    f"layer {row['layer']}" if row["level"] == "layer" else str(row["pattern_type"]),
                    *_apart(row, "cost"),
                    *_apart(row, "quality"),
                    number(row["output_error"], places=3),
                    "yes" if row["on_front"] else "no",
                    count(row["n"]),
                )
                for row in rows.iter_rows(named=True)
            ),
            open=False,
        )
    ]


def _apart(row: dict[str, object], name: str) -> tuple[str, str]:
    return percent_with_interval({"share": row[name], "ci_low": row[f"{name}_low"], "ci_high": row[f"{name}_high"]})


def across(report: ReportInput) -> list[Drawn]:
    """Cost by context length; of indexers where any model has one, else of attention."""
    models = overlaid(report)
    parts = {
        table: {name: _parts(frame) for name, frame in report.frames("efficiency", table).items() if name in models}
        for table in ("latency", "projection")
    }
    held = {component for table in parts.values() for own in table.values() for component in own}
    # A model without an indexer has all its attention counted as dense.
    of, counted = ("indexer", "indexer") if "indexer" in held else ("attention", "dense_attention")
    latency = {name: own[of] for name, own in parts["latency"].items() if of in own}
    projection = {name: own[counted] for name, own in parts["projection"].items() if counted in own}
    compared = {name: relative_to_dense(frame) for name, frame in report.frames("efficiency", "projection").items()}
    relative = {name: rows for name, rows in compared.items() if rows is not None}
    figure = cost_by_length(latency, projection, models, relative)
    caption = (
        f"Latency of the {of} as measured on this machine (bars: 5th to 95th percentile of the repeats) and its "
        "operations by formula, as served, projected to contexts that were not run."
    )
    if relative:
        caption += " Indexer and sparse attention together cost less than dense attention below the line at 100 %."
    title = "Cost of the indexer" if of == "indexer" else "Cost of attention"
    return [Drawn("cost", f"{title} by context length", caption, figure)]


def across_components(report: ReportInput) -> list[Drawn]:
    """Where time and memory go."""
    figure = cost_by_component(report.frames("efficiency", "latency"), overlaid(report))
    caption = (
        "One prefill of the longest profiled length with the model's own code. The topk is part of the indexer, "
        "attention is without its indexer. Thin lines: 5th to 95th percentile of the repeats. Memory is the largest of "
        "one call above what was alive before it."
    )
    return [Drawn("components", "Where time and memory go", caption, figure)]


def relative_to_dense(projection: pl.DataFrame | None) -> pl.DataFrame | None:
    """Length, and operations of indexer and attention relative to dense attention; None without all three."""
    parts = _parts(projection)
    if not {"indexer", "attention", "dense_attention"} <= parts.keys():
        return None
    joined = parts["indexer"].select("length", indexer="flops")
    for name in ("attention", "dense_attention"):
        joined = joined.join(parts[name].select("length", pl.col("flops").alias(name)), on="length")
    return joined.select(
        "length", relative=(pl.col("indexer") + pl.col("attention")) / pl.col("dense_attention")
    ).filter(pl.col("relative").is_finite())


def _parts(frame: pl.DataFrame | None) -> dict[str, pl.DataFrame]:
    """Rows by component; of a projection, those of the checkpoint as served."""
    if frame is None:
        return {}
    own = _as_served(frame) if "dimensions" in frame.columns else frame
    return {str(name): rows for (name,), rows in own.group_by("component", maintain_order=True)}


def draw_costs(frames: Frames) -> list[Drawn]:
    """Every part, measured and by formula."""
    latency, projection = (_parts(frames.get(table)) for table in ("latency", "projection"))
    figure = cost_by_length(latency, projection, list(latency | projection))
    caption = (
        "Left, latency as measured; right, operations by formula, projected to contexts that were not run, as served: "
        f"{SERVED.meaning}."
    )
    return [Drawn("costs", "Cost by context length", caption, figure)]


def tables_of_costs(frames: Frames) -> list[TextTable]:
    """Cost relative to dense attention by convention, and projected operations by length."""
    return [*_relative(frames), *_operations(frames)]


def _relative(frames: Frames) -> list[TextTable]:
    """Break-even, and relative cost at every length, of each convention by name."""
    costs, projection = frames.get("conventions", EMPTY), frames.get("projection", EMPTY)
    if costs.is_empty() or projection.is_empty():
        return []
    lengths = sorted(set(projection["length"]))
    flops = {
        (row["dimensions"], row["convention"], row["length"], row["component"]): row["flops"]
        for row in projection.iter_rows(named=True)
    }

    def relative(of: tuple[str, str], length: int) -> str:
        indexer, own, dense = (flops.get((*of, length, part)) for part in ("indexer", "attention", "dense_attention"))
        return number(None if indexer is None or own is None or not dense else (indexer + own) / dense)

    lines = tuple(
        (
            row["convention"] + ("" if row["dimensions"] == THIS else f", dimensions of {row['dimensions']}"),
            count(row["break_even_length"]) if row["break_even_length"] is not None else "never",
            number(row["relative_cost"]),
            *(relative((row["dimensions"], row["convention"]), length) for length in lengths),
        )
        for row in costs.iter_rows(named=True)
    )
    meanings = "; ".join(f"{one.name}: {one.meaning}" for one in CONVENTIONS if one.name in set(costs["convention"]))
    caption = (
        "Indexer and sparse attention relative to dense attention, by convention: the context from which they cost "
        f"less (tokens), and the ratio at the study's lengths and at others (tokens), by formula. {meanings}"
    )
    heads = ("convention", "break-even", "study's lengths", *(count(length) for length in lengths))
    return [TextTable(caption, heads, lines)]


def _operations(frames: Frames) -> list[TextTable]:
    """Projected operations by length as served, at the checkpoint's own dimensions first."""
    if "projection" not in frames:
        return []
    components = list(map(str, frames["projection"]["component"].unique(maintain_order=True)))
    served = frames["projection"].filter(pl.col("convention") == SERVED.name)
    lines = []
    for (dimensions,), of in served.group_by("dimensions", maintain_order=True):
        where = "" if dimensions == THIS else f", dimensions of {dimensions}"
        for (length,), own in of.sort("length").group_by("length", maintain_order=True):
            flops = dict(own.select("component", "flops").iter_rows())
            cells = (number(flops.get(name), "FLOPs") for name in components)
            lines.append((f"{count(length)}{where}", *cells))
    served_as = ", as served: those of an FP8 indexer count half" if "indexer" in components else ""
    caption = f"Operations by formula (FLOPs, a multiply-add counts two), by context length{served_as}. Not measured"
    heads = ("length (tokens)", *(name.replace("_", " ") for name in components))
    return [TextTable(caption, heads, tuple(lines))]


COST = Panel("efficiency", 10, "costs", "Cost", draw=draw_costs, tables=tables_of_costs, across=across)
MEASURED = Panel(
    analysis="efficiency",
    order=20,
    chapter="costs",
    title="Where time and memory go, and what is worth it",
    about=(
        "Time and memory are measured with the model's own code, operations are by formula. A head is worth its cost "
        "where few keys hold its attention and the selection has them."
    ),
    words=_words,
    draw=_draw,
    tables=_tables,
    across=across_components,
    charts=_charts,
)
