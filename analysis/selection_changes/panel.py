"""What changed between the baseline's choices and a candidate's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from indexscope.analysis.names import plain
from indexscope.analysis.report.charting import by_position, chart_rows
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import DASH, count, decimals, known, number, percent, span
from indexscope.analysis.report.overlaid import looks
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, TextTable
from indexscope.analysis.selection_changes.figures import (
    changes_by_layer,
    dropped_and_added,
    overlap_by_layer,
    overlap_map,
)
from indexscope.analysis.token_content.panel import TITLE as CONTENT

_NAMED = 3
"""Bins or kinds that a sentence names at most."""
_NOTED = 0.05
"""From this share on that is estimated and not measured, attention is said to be so."""
_SHARED = {
    "selection_kept": "keys kept",
    "selection_overlap_with_baseline": "overlap",
    "selection_overlap_by_chance": "overlap by chance",
}
_LISTS = {
    "overlap": "Samples whose selections overlap least with the baseline's, over all layers",
    "mass_lost": "Samples of the close-up in which most attention of the baseline is lost",
}

Row = Mapping[str, Any]


def words(frames: Frames) -> list[str]:
    """How much is shared, where least, what it costs in attention, and what is dropped and added."""
    if "metrics" not in frames:
        return []
    overall = frames["metrics"].filter(pl.col("layer").is_null())
    rows = {row["metric"]: row for row in overall.iter_rows(named=True)}
    return [*_shared(frames["metrics"], rows), *_lost(rows), *_moved(frames.get("selection_changes_by"))]


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
        f"the added ones {percent(added['value'])}, so that {_share(lost)} is lost (n = {lost['n']} samples of "
        "the close-up)"
    )
    own, estimated = rows.get("selection_mass_lost_own"), rows.get("selection_mass_estimated")
    if own is not None:
        text += f"; by this model's own attention {_share(own)}"
    found = [f"{text}."]
    whole = dropped["value"] + added["value"]
    if estimated is not None and whole and estimated["value"] > _NOTED * whole:
        found.append(
            f"Of what moves {percent(estimated['value'] / whole)} lies on keys whose attention is not stored one by "
            f"one and is estimated: raise closeup.attended_keys to measure it."
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


def draw(frames: Frames) -> list[Drawn]:
    """Overlap by layer, by layer and position, and what moved."""
    each, where, by = map(frames.get, ("metrics", "selection_changes_where", "selection_changes_by"))
    return [
        Drawn(
            "overlap",
            "Selections against the baseline's, by layer",
            "Left: how much of the selection this model shares with the baseline at the same queries. Right: the "
            "attention of the baseline on keys that this model drops, on those that it adds, and their difference.",
            None if each is None else overlap_by_layer(each),
        ),
        Drawn(
            "overlap-map",
            "Where selections differ",
            "Overlap of selections, and attention of the baseline that is lost, by layer and query position. Grey: no "
            "query in effect, or none looked at.",
            None if where is None else overlap_map(where),
        ),
        Drawn(
            "dropped-and-added",
            "What is dropped and added",
            "Left: keys dropped relative to as many of the baseline's keys dropped at random at the same query, and "
            "keys added relative to as many of those it leaves out. Right: the baseline's attention on them. Over all "
            "layers; kinds overlap and are known of samples of the close-up.",
            None if by is None else dropped_and_added(by),
        ),
    ]


def across(report: ReportInput) -> list[Drawn]:
    """What all candidates keep, drop and add, by layer."""
    choices = report.frames("selection_changes", "metrics")
    own = {name: look for name, look in looks(report).items() if name in choices}
    caption = (
        f"At the same queries, layers and samples; bands: {report.interval}. Attention is the baseline's own, as a "
        "share of a query's, on keys that only the baseline selects (dropped) or only the candidate (added): what is "
        "lost is the difference."
    )
    return [Drawn("selection-changes", "Selections against the baseline's", caption, changes_by_layer(choices, own))]


def charts(frames: Frames) -> list[Chart]:
    """By layer, by layer and position, and what is dropped and added by distance and kind."""
    each, where, by = map(frames.get, ("metrics", "selection_changes_where", "selection_changes_by"))
    found = []
    if each is not None:
        shown = each.filter(pl.col("layer").is_not_null() & pl.col("metric").is_in(list(_SHARED)))
        rows = shown.with_columns(of=pl.col("metric").replace(_SHARED)).sort("of", "layer")
        about = "Share of the baseline's selected keys that are kept, overlap (Jaccard), and overlap by chance."
        kept = chart_rows(rows, "of", "layer", "value")
        found.append(
            Chart("Selection shared by layer", about, "line", kept, x="layer", y="value", series="of", xlabel="layer")
        )
    for column, title, about, middle in (
        (
            "differs",
            "Where selections differ",
            "What is missing to a full overlap (Jaccard) with the baseline's.",
            None,
        ),
        ("mass_lost", "Where attention is lost", "Baseline's attention on dropped keys less that on added.", 0.0),
    ):
        if where is not None:
            cells = by_position(where.with_columns(differs=1 - pl.col("overlap")), column)
            found.append(
                Chart(
                    title,
                    about,
                    "map",
                    cells,
                    x="layer",
                    y="position",
                    shade=column,
                    middle=middle,
                    xlabel="layer",
                    ylabel="query position (tokens)",
                )
            )
    return [*found, *([] if by is None else [_lifts(by, axis) for axis in ("distance", "kind")])]


def _lifts(by: pl.DataFrame, axis: str) -> Chart:
    """Keys dropped and added relative to chance, over all layers."""
    rows = by.filter(pl.col("layer").is_null() & (pl.col("axis") == axis)).sort("bin")
    parts = [
        rows.select(
            "bin",
            "label",
            "n",
            keys=pl.lit(name),
            lift=f"{name}_lift",
            ci_low=f"{name}_ci_low",
            ci_high=f"{name}_ci_high",
        )
        for name in ("dropped", "added")
    ]
    words = {"distance": ("distance", "distance (tokens)"), "kind": ("kind of token", "kind of token")}[axis]
    return Chart(
        f"Dropped and added keys by {words[0]}",
        "Relative to as many of the baseline's keys dropped, or of the others added, at random; 1 is by chance.",
        "line" if axis == "distance" else "dots",
        chart_rows(pl.concat(parts).filter(pl.col("lift") > 0), "keys", "bin", "label", "lift"),
        x="bin",
        y="lift",
        series="keys",
        labels="label",
        xlabel=words[1],
        ylabel="lift (log)",
        log=True,
    )


def tables(frames: Frames) -> list[TextTable]:
    """The worst samples, and what was dropped and added in numbers."""
    return [*_worst(frames.get("selection_changes_worst")), *_bins(frames.get("selection_changes_by"))]


def _worst(worst: pl.DataFrame | None) -> list[TextTable]:
    if worst is None:
        return []
    heads = ("sample", "index", "overlap", "kept", "attention lost", "least in layer", "queries", "excerpt")
    return [
        TextTable(f"{caption}; few queries make extremes likely. Excerpt: whether {CONTENT} shows it", heads, lines)
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
    analysis="selection_changes",
    order=10,
    chapter="changed",
    title="Selection changes",
    about=(
        "The selection of each sampled query beside the baseline's at the same query, layer and sample, where either "
        "leaves a key out. The baseline's attention is the yardstick of what a key was worth: this model's own may "
        "have followed its selection in training. Overlap says how much changed, attention whether it mattered."
    ),
    words=words,
    draw=draw,
    tables=tables,
    across=across,
    charts=charts,
)
