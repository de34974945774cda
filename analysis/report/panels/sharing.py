"""Whether layers could share one selection: overlap, what reuse loses, and which indexers to keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from analysis.plots.frames import spread
from analysis.plots.sharing import loss_by_indexers, sharing_maps
from analysis.report.numbers import DASH, known, number, percent, span
from analysis.report.panels.panel import Frames, Panel, TextTable

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
    chance = "" if similarity is None else f"; two random selections of that size would share {_chance(similarity)}"
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
    return percent(float(similarity["random_recall"].mean() or 0.0))  # type: ignore[arg-type]


def _share(row: Row) -> str:
    if known(row["ci_low"]) is None:
        return f"{percent(row['value'])} (n = {row['n']} samples)"
    return f"{percent(row['value'])} (CI {percent(row['ci_low'])} to {percent(row['ci_high'])}, n = {row['n']} samples)"


def _neighbours(metrics: pl.DataFrame, similarity: pl.DataFrame | None) -> list[str]:
    rows = metrics.filter(
        (pl.col("metric") == "sharing_loss") & pl.col("layer").is_null() & pl.col("value").is_not_null()
    )
    if rows.is_empty() or similarity is None:
        return []
    own = similarity.unique("layer")["own_recall"].mean()
    return [
        f"With the selection of the layer before it, a layer would lose {_share(rows.row(0, named=True))} of its "
        f"attention mass; its own selection holds {percent(float(own or 0.0))}."  # type: ignore[arg-type]
    ]


def _quarter(schedules: pl.DataFrame) -> list[str]:
    total = int(schedules["indexers"].max() or 0)  # type: ignore[call-overload]
    if total < 4:
        return [f"Three quarters of {total} indexers cannot be taken away, so that claim of {_PAPER} is not tested here."]
    kept = -(-total // 4)
    rows = {row["method"]: row for row in schedules.filter(pl.col("indexers") == kept).iter_rows(named=True)}
    exact = rows["exact"]
    held = known(exact["loss_held_out"])
    others = " and ".join(
        f"{number(rows[method]['loss'], places=4)} {name}"
        for method, name in (("greedy", "chosen greedily"), ("even", "evenly spaced"))
        if method in rows
    )
    return [
        f"With {kept} of {total} indexers (layers {exact['layers'].replace(',', ', ')}) the layers lose on average "
        f"{number(exact['loss'], places=4)} of their attention mass (CI {_interval(exact)}), the worst "
        f"{number(exact['worst_loss'], places=4)} (layer {exact['worst_layer']}); {others}. "
        + ("" if held is None else f"Chosen on one half of the samples and judged on the other: {_held(exact)}."),
        f"Taking a loss of {percent(NEGLIGIBLE)} of the attention mass as negligible, {_removable(exact)} that three "
        f"quarters of the indexers can go, as {_PAPER} reports. That paper judges by task quality, after a search or "
        "training; this is the loss of recall without propagation and without training.",
    ]


def _interval(row: Row) -> str:
    return span(row["ci_low"], row["ci_high"], places=4)


def _held(row: Row) -> str:
    return f"{number(row['loss_held_out'], places=4)} (CI {span(row['held_out_ci_low'], row['held_out_ci_high'], places=4)})"


def _removable(row: Row) -> str:
    low, high = known(row["held_out_ci_low"]), known(row["held_out_ci_high"])
    if high is not None and high <= NEGLIGIBLE:
        return "the data support"
    if low is not None and low > NEGLIGIBLE:
        return "the data speak against it"
    return "the data cannot tell whether it holds"


def _fewest(schedules: pl.DataFrame) -> list[str]:
    total = int(schedules["indexers"].max() or 0)  # type: ignore[call-overload]
    rows = schedules.filter((pl.col("method") == "exact") & (pl.col("held_out_ci_high") <= NEGLIGIBLE)).sort("indexers")
    rows = rows.filter(pl.col("indexers") < total)
    if rows.is_empty():
        return [f"No indexer can go with a loss of at most {percent(NEGLIGIBLE)} of the attention mass."]
    row = rows.row(0, named=True)
    return [
        f"The fewest indexers with a held-out loss of surely at most {percent(NEGLIGIBLE)} are {row['indexers']} of "
        f"{total} (layers {row['layers'].replace(',', ', ')}): {percent(row['indexer_share'])} of the indexers' work "
        f"remains, for {_held(row)} of the attention mass."
    ]


def _sharing_already(schedules: pl.DataFrame, similarity: pl.DataFrame) -> list[str]:
    total = int(schedules["indexers"].max() or 0)  # type: ignore[call-overload]
    layers = len({*similarity["layer"], *similarity["source"]})
    if layers == total:
        return []
    return [
        f"{layers - total} of {layers} layers have no indexer of their own: they share a selection already, and lose "
        "nothing as long as they keep it."
    ]


def draw(frames: Frames) -> list[tuple[Figure, str, str]]:
    """Maps of overlap and loss, and the loss over the number of indexers."""
    found = []
    if "similarity" in frames:
        caption = (
            "Left: selected keys that a layer shares with an earlier one. Right: attention mass that the layer would "
            "lose with the earlier layer's selection, all other layers left as they are."
        )
        found.append((sharing_maps(frames["similarity"]), "Overlap of selections and loss by reuse", caption))
    if "schedules" in frames:
        caption = (
            "Each layer without an indexer uses the last one before it. Exact: the best of all schedules, by dynamic "
            "programming; its band is the interval of that schedule, which was chosen on the same samples. Held out: "
            "each half of the samples under the schedule that the other half chose."
        )
        found.append((loss_by_indexers(frames["schedules"]), "Loss by the number of indexers", caption))
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
                _interval(exact),
                number(exact["loss_held_out"], places=4),
                *loss,
                DASH if exact["worst_layer"] is None else f"{exact['worst_layer']}: {number(exact['worst_loss'], places=4)}",
            )
        )
    heads = (
        "indexers kept", "share", "layers (exact)", "loss", "CI", "held out", "greedy", "even", "worst layer",
    )  # fmt: skip
    n = schedules["n"].max()
    return [TextTable(f"Attention mass lost, mean of the layers (share), n = {n} samples", heads, tuple(lines), open=False)]


PANEL = Panel(
    analysis="sharing",
    order=70,
    title="Sharing a selection across layers",
    about=(
        "What a layer's attention would lose if it used an earlier layer's selection in place of its own. Every layer "
        "sees the hidden states of the unchanged model, so this is reuse without propagation: what sharing changes in "
        "later layers is not in it. Sampled queries in effect only."
    ),
    words=words,
    draw=draw,
    tables=tables,
)
