"""What changed between the baseline's choices and a candidate's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from indexscope.analysis.names import plain
from indexscope.analysis.plots.choices import dropped_and_added, overlap_by_layer, overlap_map
from indexscope.analysis.report.numbers import DASH, count, decimals, known, number, percent, span
from indexscope.analysis.report.panels.content import PANEL as CONTENT
from indexscope.analysis.report.panels.panel import Frames, Panel, TextTable

_NAMED = 3
"""Bins or kinds that a sentence names at most."""
_NOTED = 0.05
"""From this share on that is estimated and not measured, attention is said to be so."""
_LISTS = {
    "overlap": "Samples whose selections overlap least with the baseline's, over all layers",
    "mass_lost": "Probed samples in which most attention of the baseline is lost",
}

Row = Mapping[str, Any]


def words(frames: Frames) -> list[str]:
    """How much is shared, where least, what it costs in attention, and what is dropped and added."""
    if "choices" not in frames:
        return []
    overall = frames["choices"].filter(pl.col("layer").is_null())
    rows = {row["metric"]: row for row in overall.iter_rows(named=True)}
    return [*_shared(frames["choices"], rows), *_lost(rows), *_moved(frames.get("choices_by"))]


def _shared(choices: pl.DataFrame, rows: Mapping[str, Row]) -> list[str]:
    kept, overlap = rows.get("selection_kept"), rows.get("selection_overlap_with_baseline")
    if kept is None or overlap is None:
        return []
    chance = rows.get("selection_overlap_by_chance")
    by_chance = "" if chance is None else f", {percent(chance['value'])} if it were random"
    found = [
        f"Of the baseline's selected keys {_share(kept)} are selected here too; the overlap (Jaccard) is "
        f"{_share(overlap)}{by_chance} (n = {kept['n']} samples)."
    ]
    layers = choices.filter((pl.col("metric") == overlap["metric"]) & pl.col("layer").is_not_null())
    if layers.height > 1:
        ordered = layers.sort("value", "layer")
        least, most = ordered.row(0, named=True), ordered.row(-1, named=True)
        found.append(
            f"They overlap least in layer {least['layer']}, {percent(least['value'])}, and most in layer "
            f"{most['layer']}, {percent(most['value'])}."
        )
    return found


def _lost(rows: Mapping[str, Row]) -> list[str]:
    lost, dropped, added = (rows.get(f"selection_mass_{name}") for name in ("lost", "dropped", "added"))
    if lost is None or dropped is None or added is None:
        return []
    text = (
        f"By the baseline's own attention the dropped keys hold {percent(dropped['value'])} of a query's attention and "
        f"the added ones {percent(added['value'])}, so that {_share(lost)} is lost (n = {lost['n']} probed samples)"
    )
    own, estimated = rows.get("selection_mass_lost_own"), rows.get("selection_mass_estimated")
    if own is not None:
        text += f"; by this model's own attention {_share(own)}"
    found = [f"{text}."]
    whole = dropped["value"] + added["value"]
    if estimated is not None and whole and estimated["value"] > _NOTED * whole:
        found.append(
            f"Of what moves {percent(estimated['value'] / whole)} lies on keys whose attention is not stored one by "
            f"one and is estimated: raise probe.attended_keys to measure it."
        )
    return found


def _moved(by: pl.DataFrame | None) -> list[str]:
    if by is None:
        return []
    found = []
    for name, chance in (
        ("Dropped", "the baseline's selected keys"),
        ("Added", "the keys that the baseline leaves out"),
    ):
        column = name.lower()
        rows = by.filter(
            pl.col("layer").is_null() & (pl.col("axis") != "relative") & (pl.col(f"{column}_ci_low") > 1)
        ).sort(f"{column}_lift", descending=True)
        texts = []
        for axis, noun in (("distance", "keys at distance "), ("kind", "")):
            for row in rows.filter(pl.col("axis") == axis).head(_NAMED).iter_rows(named=True):
                texts.append(f"{noun}{row['label']} {_lift(row, column)}")
        if texts:
            found.append(f"{name} more often than other ones of {chance}: {', '.join(texts)} times.")
    return found


def _share(row: Row) -> str:
    low, high = (None if known(row[name]) is None else 100 * row[name] for name in ("ci_low", "ci_high"))
    places = decimals((low, high), 100 * row["value"])
    if places is None:
        return percent(row["value"])
    return f"{number(100 * row['value'], places=places)} % (CI {span(low, high, places=places)} %)"


def _lift(row: Row, name: str) -> str:
    value, low, high = (row[f"{name}_{part}"] for part in ("lift", "ci_low", "ci_high"))
    if known(value) is None:
        return DASH
    places = decimals((known(low), known(high)), known(value))
    return number(value, places=places) + ("" if known(low) is None else f" ({span(low, high, places=places)})")


def draw(frames: Frames) -> list[tuple[Figure, str, str]]:
    """Overlap by layer, by layer and position, and what moved."""
    found: list[tuple[Figure, str, str]] = []
    if "choices" in frames and (figure := overlap_by_layer(frames["choices"])) is not None:
        caption = (
            "Left: how much of the selection this model shares with the baseline at the same queries. Right: the "
            "attention of the baseline on keys that this model drops, on those that it adds, and their difference."
        )
        found.append((figure, "Selections against the baseline's, by layer", caption))
    if "choices_where" in frames and (figure := overlap_map(frames["choices_where"])) is not None:
        caption = (
            "Overlap of selections, and attention of the baseline that is lost, by layer and query position. Grey: no "
            "query in effect, or none probed."
        )
        found.append((figure, "Where selections differ", caption))
    if "choices_by" in frames and (figure := dropped_and_added(frames["choices_by"])) is not None:
        caption = (
            "Left: keys dropped relative to as many of the baseline's keys dropped at random at the same query, and "
            "keys added relative to as many of those it leaves out. Right: the baseline's attention on them. Over all "
            "layers; kinds overlap and are known of probed samples."
        )
        found.append((figure, "What is dropped and added", caption))
    return found


def tables(frames: Frames) -> list[TextTable]:
    """The worst samples, and what was dropped and added in numbers."""
    return [*_worst(frames.get("choices_worst")), *_bins(frames.get("choices_by"))]


def _worst(worst: pl.DataFrame | None) -> list[TextTable]:
    if worst is None:
        return []
    heads = ("sample", "index", "overlap", "kept", "attention lost", "least in layer", "queries", "excerpt")
    return [
        TextTable(
            f"{caption}; few queries make extremes likely. Excerpt: whether {CONTENT.title} shows it", heads, lines
        )
        for by, caption in _LISTS.items()
        if (lines := tuple(_sample(row) for row in worst.filter(pl.col("by") == by).iter_rows(named=True)))
    ]


def _sample(row: Row) -> tuple[str, ...]:
    return (
        plain(row["name"] or f"sample {row['sample']}"),
        str(row["sample"]),
        percent(row["overlap"]),
        percent(row["kept"]),
        DASH if row["mass_lost"] is None else percent(row["mass_lost"]),
        f"{row['layer']} ({percent(row['layer_overlap'])})",
        count(row["queries"]),
        "yes" if row["excerpt"] else DASH,
    )


def _bins(by: pl.DataFrame | None) -> list[TextTable]:
    if by is None:
        return []
    lines = [
        (
            f"{row['axis']}: {row['label']}",
            *(percent(row[f"{name}_share"]) if known(row[f"{name}_share"]) is not None else DASH for name in _STATES),
            _lift(row, "dropped"),
            _lift(row, "added"),
            *(DASH if row[f"mass_{name}"] is None else percent(row[f"mass_{name}"]) for name in _STATES[1:]),
            count(row["n"]),
        )
        for row in by.filter(pl.col("layer").is_null()).iter_rows(named=True)
    ]
    heads = (
        *("keys", "share of kept", "share of dropped", "share of added", "lift of dropped (CI)", "lift of added (CI)"),
        *("attention dropped", "attention added", "n (samples)"),
    )
    caption = (
        "Keys kept, dropped and added over all layers, by distance, relative position (0 % oldest) and kind of token"
    )
    return [TextTable(caption, heads, tuple(lines), open=False)]


_STATES = ("kept", "dropped", "added")

PANEL = Panel(
    analysis="choices",
    order=78,
    title="What changed between the choices",
    about=(
        "The selection of each sampled query beside the baseline's at the same query, layer and sample, where either "
        "leaves a key out. The baseline's attention is the yardstick of what a key was worth: this model's own may "
        "have followed its selection in training. Overlap says how much changed, attention whether it mattered."
    ),
    words=words,
    draw=draw,
    tables=tables,
)
