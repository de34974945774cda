"""Whether layers could share one selection: overlap, what reuse loses, and which indexers to keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from indexscope.analysis.layer_sharing.figures import loss_by_indexers, sharing_maps
from indexscope.analysis.plots.frames import largest, spread
from indexscope.analysis.report.charting import chart_rows
from indexscope.analysis.report.numbers import DASH, decimals, known, number, percent, span
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, TextTable

PUBLISHED_OVERLAP = 0.7
"""IndexCache finds 70 to 100 % of the selected keys in common between neighbouring layers."""
NEGLIGIBLE = 0.01
"""Attention mass, mean of the layers, whose loss the panel calls negligible."""
_ROWS = 16
_PAPER = "IndexCache (arXiv 2603.12201)"

Row = Mapping[str, Any]


def words(frames: Frames) -> list[str]:
    """What the data give, beside what is published."""
    found: list[str] = []
    metrics, similarity, schedules = (frames.get(name) for name in ("metrics", "similarity", "schedules"))
    if metrics is not None:
        found += _overlap(metrics, similarity)
        found += _neighbours(metrics, similarity)
    if schedules is not None:
        found += _quarter(schedules)
        found += _fewest(schedules)
        if similarity is not None:
            found += _sharing_already(schedules, similarity)
    return found


def _overlap(metrics: pl.DataFrame, similarity: pl.DataFrame | None) -> list[str]:
    rows = metrics.filter((pl.col("metric") == "neighbour_overlap") & pl.col("value").is_not_null())
    overall = rows.filter(pl.col("layer").is_null())
    layers = rows.filter(pl.col("layer").is_not_null()).sort("value")
    if overall.is_empty() or layers.is_empty():
        return []
    row, lowest, highest = (frame.row(0, named=True) for frame in (overall, layers.head(1), layers.tail(1)))
    many = (layers["value"] >= PUBLISHED_OVERLAP).sum()
    low, high = known(row["ci_low"]), known(row["ci_high"])
    chance = "" if similarity is None else f"; a random selection of that size would share {_chance(similarity)}"
    if low is not None and low >= PUBLISHED_OVERLAP:
        verdict = "so the data agree with the 70 to 100 %"
    elif high is not None and high < PUBLISHED_OVERLAP:
        verdict = "so the data do not reach the 70 to 100 %"
    else:
        verdict = "so the data neither confirm nor refute the 70 to 100 %"
    return [
        f"A layer shares {_share(row)} of its selected keys with the layer before it, from {percent(lowest['value'])} "
        f"(layer {lowest['layer']}) to {percent(highest['value'])} (layer {highest['layer']}){chance}.",
        f"{many} of {layers.height} layers reach 70 %, {verdict} that {_PAPER} reports for neighbouring layers.",
    ]


def _chance(similarity: pl.DataFrame) -> str:
    return percent(_mean(similarity["random_recall"]))


def _mean(column: pl.Series) -> float:
    found = column.mean()
    return found if isinstance(found, float) else 0.0


def _share(row: Row) -> str:
    return f"{_part(row, 'value')} ({_interval(row, 'value')}n = {row['n']} samples)"


def _part(row: Row, name: str, prefix: str = "") -> str:
    """A share in per cent, with the digits that its interval is worth."""
    places = _digits(row, name, prefix)
    return percent(row[name]) if places is None else f"{number(100 * row[name], places=places)}\u202f%"


def _digits(row: Row, name: str, prefix: str) -> int | None:
    low, high = known(row[f"{prefix}ci_low"]), known(row[f"{prefix}ci_high"])
    return None if low is None or high is None else decimals((100 * low, 100 * high), 100 * row[name])


def _neighbours(metrics: pl.DataFrame, similarity: pl.DataFrame | None) -> list[str]:
    rows = metrics.filter(
        (pl.col("metric") == "sharing_loss") & pl.col("layer").is_null() & pl.col("value").is_not_null()
    )
    if rows.is_empty() or similarity is None:
        return []
    own = _mean(similarity.unique("layer")["own_recall"])
    return [
        f"With the selection of the layer before it, a layer would lose {_share(rows.row(0, named=True))} of its "
        f"attention mass; its own selection holds {percent(own)}."
    ]


def _quarter(schedules: pl.DataFrame) -> list[str]:
    total = largest(schedules, "indexers")
    if total < 4:
        return [f"Three quarters of {total} indexers cannot be taken away: that claim of {_PAPER} is not tested here."]
    kept = -(-total // 4)
    rows = {row["method"]: row for row in schedules.filter(pl.col("indexers") == kept).iter_rows(named=True)}
    exact = rows["exact"]
    gone = percent(1 - kept / total)
    return [
        f"With {kept} of {total} indexers (layers {_listed(exact)}) the layers lose on average "
        f"{_part(exact, 'loss')} of their attention mass ({_interval(exact, 'loss')}layer {exact['worst_layer']} "
        f"loses most, {percent(exact['worst_loss'])}); chosen greedily {percent(rows['greedy']['loss'])}, "
        f"evenly spaced {percent(rows['even']['loss'])}.{_held(exact)}",
        f"Taking {percent(NEGLIGIBLE)} of the attention mass as negligible, {_removable(exact, gone)}; {_PAPER} "
        "reports 75\u202f%. That paper judges by task quality, after a search or training; this is the loss of recall "
        "without propagation and without training.",
    ]


def _listed(row: Row) -> str:
    return str(row["layers"]).replace(",", ", ")


def _interval(row: Row, name: str, prefix: str = "") -> str:
    """An interval in per cent with what parts it from the words after it; nothing where it is unknown."""
    low, high = known(row[f"{prefix}ci_low"]), known(row[f"{prefix}ci_high"])
    if low is None or high is None:
        return ""
    return f"CI {span(100 * low, 100 * high, places=_digits(row, name, prefix))}\u202f%, "


def _held(row: Row) -> str:
    if known(row["loss_held_out"]) is None:
        return ""
    interval = _interval(row, "loss_held_out", "held_out_").rstrip(", ")
    held = _part(row, "loss_held_out", "held_out_")
    return f" Chosen on one half of the samples and judged on the other: {held}" + (
        f" ({interval})." if interval else "."
    )


def _removable(row: Row, gone: str) -> str:
    low, high = known(row["held_out_ci_low"]), known(row["held_out_ci_high"])
    if high is not None and high <= NEGLIGIBLE:
        return f"the data support that {gone} of the indexers can go"
    if low is not None and low > NEGLIGIBLE:
        return f"the data speak against taking {gone} of the indexers away"
    return f"the data cannot tell whether {gone} of the indexers can go"


def _fewest(schedules: pl.DataFrame) -> list[str]:
    total = largest(schedules, "indexers")
    rows = schedules.filter((pl.col("method") == "exact") & (pl.col("held_out_ci_high") <= NEGLIGIBLE)).sort("indexers")
    rows = rows.filter(pl.col("indexers") < total)
    if rows.is_empty():
        return [f"No indexer can go with a loss of at most {percent(NEGLIGIBLE)} of the attention mass."]
    row = rows.row(0, named=True)
    return [
        f"The fewest indexers whose held-out loss is surely at most {percent(NEGLIGIBLE)} are {row['indexers']} of "
        f"{total} (layers {_listed(row)}): {percent(row['indexer_share'])} of the indexers remain, for "
        f"{_part(row, 'loss_held_out', 'held_out_')} of the attention mass "
        f"({_interval(row, 'loss_held_out', 'held_out_')}held out)."
    ]


def _sharing_already(schedules: pl.DataFrame, similarity: pl.DataFrame) -> list[str]:
    total = largest(schedules, "indexers")
    layers = len({*similarity["layer"], *similarity["source"]})
    if layers == total:
        return []
    return [
        f"{layers - total} of {layers} layers have no indexer of their own: they share a selection already, and lose "
        "nothing as long as they keep it."
    ]


def draw(frames: Frames) -> list[Drawn]:
    """Maps of overlap and loss, and the loss over the number of indexers."""
    similarity, schedules = frames.get("similarity"), frames.get("schedules")
    return [
        Drawn(
            "sharing",
            "Overlap of selections and loss by reuse",
            "Left: selected keys that a layer shares with an earlier one. Right: attention mass that the layer would "
            "lose with the earlier layer's selection, all other layers left as they are.",
            None if similarity is None else sharing_maps(similarity),
        ),
        Drawn(
            "schedules",
            "Loss by the number of indexers",
            "Each layer without an indexer uses the last one before it. Exact: the best of all schedules, by dynamic "
            "programming; its band is the interval of that schedule, which was chosen on the same samples. Held out: "
            "each half of the samples under the schedule that the other half chose.",
            None if schedules is None else loss_by_indexers(schedules),
        ),
    ]


def charts(frames: Frames) -> list[Chart]:
    """Overlap and loss for every two layers, and the loss by the number of indexers."""
    similarity, schedules = frames.get("similarity"), frames.get("schedules")
    found = []
    for column, title, about in (
        ("overlap", "Keys that layers share", "Share of a layer's selected keys that an earlier layer selects too."),
        ("loss", "Attention lost by reuse", "Attention mass that a layer loses with an earlier layer's selection."),
    ):
        if similarity is not None:
            cells = chart_rows(similarity.sort("layer", "source"), "source", "layer", column)
            found.append(
                Chart(
                    title,
                    about,
                    "map",
                    cells.drop("ci_low", "ci_high", strict=False),
                    x="source",
                    y="layer",
                    shade=column,
                    xlabel="source layer",
                    ylabel="layer",
                )
            )
    if schedules is not None:
        held = schedules.filter(pl.col("method") == "exact").select(
            "indexers", method=pl.lit("exact, held out"), loss="loss_held_out"
        )
        rows = pl.concat([schedules.select("indexers", "method", "loss"), held], how="vertical_relaxed")
        found.append(
            Chart(
                "Loss by the number of indexers",
                "Attention mass lost, mean of the layers, for each way of choosing which layers keep an indexer; held "
                "out: each half of the samples under the schedule that the other half chose.",
                "line",
                chart_rows(rows.sort("method", "indexers"), "method", "indexers", "loss"),
                x="indexers",
                y="loss",
                series="method",
                xlabel="indexers kept",
                ylabel="share of attention",
            )
        )
    return found


def tables(frames: Frames) -> list[TextTable]:
    """Schedules by the number of indexers, at most 16 of them."""
    schedules = frames.get("schedules")
    if schedules is None:
        return []
    shown = spread(schedules["indexers"].unique().to_list(), _ROWS)
    lines = []
    for count in shown:
        rows = {row["method"]: row for row in schedules.filter(pl.col("indexers") == count).iter_rows(named=True)}
        exact = rows["exact"]
        loss = [number(rows[method]["loss"], places=4) if method in rows else DASH for method in ("greedy", "even")]
        lines.append(
            (
                str(count),
                percent(exact["indexer_share"]),
                exact["layers"].replace(",", ", "),
                number(exact["loss"], places=4),
                span(exact["ci_low"], exact["ci_high"], places=4),
                number(exact["loss_held_out"], places=4),
                *loss,
                DASH
                if exact["worst_layer"] is None
                else f"{exact['worst_layer']}: {number(exact['worst_loss'], places=4)}",
            )
        )
    heads = (
        "indexers kept", "share", "layers (exact)", "loss", "CI", "held out", "greedy", "even", "worst layer",
    )  # fmt: skip
    caption = f"Attention mass lost, mean of the layers (share), n = {largest(schedules, 'n')} samples"
    return [TextTable(caption, heads, tuple(lines), open=False)]


PANEL = Panel(
    analysis="layer_sharing",
    order=30,
    chapter="change",
    title="Layer sharing",
    about=(
        "What a layer's attention would lose if it used an earlier layer's selection in place of its own. Every layer "
        "sees the hidden states of the unchanged model, so this is reuse without propagation: what sharing changes in "
        "later layers is not in it. Sampled queries in effect only."
    ),
    words=words,
    draw=draw,
    charts=charts,
    tables=tables,
)
