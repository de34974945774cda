"""Whether a dump selects what the model selects: in words, by layer and position, and where the two part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from indexscope.analysis.metrics.registry import label
from indexscope.analysis.names import plain
from indexscope.analysis.parity.figures import agreement, agreement_by_layer, agreement_map, differences_by_distance
from indexscope.analysis.plots.style import look
from indexscope.analysis.report.charting import by_position, chart_rows
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import (
    DASH,
    count,
    decimals,
    known,
    number,
    percent,
    percent_with_interval,
    span,
)
from indexscope.analysis.report.overlaid import MOST
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, TextTable

Row = Mapping[str, Any]
#: Samples that a sentence names, and that the table lists.
_NAMED, _LISTED = 3, 20
#: From so many entries a row on that are of the future or out of range, they may be slots of a cache.
_MANY = 0.01
_BY_LAYER = (
    *("rows_identical", "rows_identical_up_to_ties", "selection_overlap", "missing_keys", "extra_keys"),
    *("differences_from_ties", "differing_key_gap", "dumped_recall_lost"),
)


def headline(frames: Frames) -> str:
    """Whether it selects what the model selects."""
    rows = _overall(frames)
    identical, alike = rows.get("rows_identical"), rows.get("rows_identical_up_to_ties")
    if identical is None:
        return "was compared in no row"
    if identical["value"] == 1:
        return "selects exactly what the baseline selects"
    if alike is not None and alike["value"] == 1:
        return "selects what the baseline selects up to ties"
    known_to_tie = "" if alike is None else f" ({percent(alike['value'])} up to ties)"
    return f"selects the baseline's keys in {percent(identical['value'])} of rows{known_to_tie}"


def words(frames: Frames) -> list[str]:
    """Whether the two select the same, whether ties say why not, where they part, and what is no selection at all."""
    rows = _overall(frames)
    matched = frames.get("parity_samples")
    found = [] if matched is None else _coverage(matched)
    if "rows_identical" in rows:
        found += [*_answer(rows), *_parting(rows, matched), *_ties(rows), *_recall(rows), *_evidence(rows)]
    return [*found, *_faults(rows)]


def _overall(frames: Frames) -> dict[str, Row]:
    if "metrics" not in frames:
        return {}
    whole = frames["metrics"].filter(pl.col("layer").is_null() & pl.col("value").is_not_null())
    return {row["metric"]: row for row in whole.iter_rows(named=True)}


def _coverage(matched: pl.DataFrame) -> list[str]:
    without = matched.filter(pl.col("record").is_null())
    if without.is_empty():
        return [f"All {count(matched.height)} samples have a record of the same tokens."]
    names = ", ".join(plain(name) for name in without["name"].head(_NAMED))
    more = f" and {count(without.height - _NAMED)} more" if without.height > _NAMED else ""
    return [
        f"{count(matched.height - without.height)} of {count(matched.height)} samples have a record of the same "
        f"tokens; without one: {names}{more}."
    ]


def _answer(rows: Mapping[str, Row]) -> list[str]:
    identical, alike, overlap = (
        rows.get(name) for name in ("rows_identical", "rows_identical_up_to_ties", "selection_overlap")
    )
    assert identical is not None
    if identical["value"] == 1:
        return ["It selects exactly the baseline's keys in every row in effect."]
    up_to = "" if alike is None else f", {_share(alike)} up to ties at the k-th score"
    shared = "" if overlap is None else f"; of the baseline's keys {_share(overlap)} are selected"
    text = f"It selects exactly the baseline's keys in {_share(identical)} of the rows in effect{up_to}{shared}"
    found = [f"{text} (n = {identical['n']} samples)."]
    if alike is not None and alike["value"] == 1:
        found.append("Ties explain every difference: it selects what the model selects, and breaks ties otherwise.")
    return found


def _parting(rows: Mapping[str, Row], matched: pl.DataFrame | None) -> list[str]:
    """Where they part, beyond ties where that is known."""
    alike = rows.get("rows_identical_up_to_ties")
    if matched is None or rows["rows_identical"]["value"] == 1 or (alike is not None and alike["value"] == 1):
        return []
    prefix, more = ("", "") if alike is None else ("beyond_", " in more than ties")
    parted = matched.filter(pl.col(f"{prefix}layer").is_not_null()).sort(f"{prefix}layer", f"{prefix}query", "sample")
    if parted.is_empty():
        return []
    first = parted.row(0, named=True)
    layer = first[f"{prefix}layer"]
    there = parted.filter(pl.col(f"{prefix}layer") == layer).height
    distance = first[f"{prefix}distance"]
    apart = "" if distance is None else f", the nearest key that differs {count(distance)} tokens before it"
    place = f"at position {count(first[f'{prefix}query'])} of {plain(first['name'])}"
    return [
        f"They part{more} first in layer {layer}, in {count(there)} of {count(parted.height)} samples that part at "
        f"all: earliest {place}{apart}. Later layers see what that layer changed, so that it is the one to look at."
    ]


def _ties(rows: Mapping[str, Row]) -> list[str]:
    ties, gap = rows.get("differences_from_ties"), rows.get("differing_key_gap")
    if ties is None or gap is None:
        return []
    return [
        f"Of the keys that one of the two alone selects ties explain {_share(ties)}; on average their scores lie "
        f"{_value(gap)} standard deviations of the row's scores from the k-th."
    ]


def _recall(rows: Mapping[str, Row]) -> list[str]:
    own, lost = rows.get("dumped_recall"), rows.get("dumped_recall_lost")
    if own is None or lost is None or rows["rows_identical"]["value"] == 1:
        return []
    return [
        f"Its keys hold {_share(own)} of the baseline's dense attention, {_share(lost)} less than the baseline's own. "
        "What that does to outputs was not measured."
    ]


def _evidence(rows: Mapping[str, Row]) -> list[str]:
    """What it holds of the evidence that answers need."""
    own, lost = rows.get("dumped_evidence_selected"), rows.get("dumped_evidence_lost")
    if own is None or lost is None:
        return []
    return [
        f"At the queries of answers its keys hold {_share(own)} of the evidence, {_share(lost)} less than the "
        f"baseline's own (n = {own['n']} samples). What the answers are with them was not measured."
    ]


def _faults(rows: Mapping[str, Row]) -> list[str]:
    """What is no selection of an earlier token."""
    found = []
    told = {
        "future_keys": "name later tokens",
        "out_of_range_keys": "name no token that the query may select",
        "repeated_keys": "repeat a key",
    }
    for name, what in told.items():
        if name in rows and rows[name]["value"] > 0:
            found.append(f"{number(rows[name]['value'])} entries a row {what}; they count as no selection.")
    if sum(rows[name]["value"] for name in ("future_keys", "out_of_range_keys") if name in rows) > _MANY:
        found.append(
            "So many suggest that the dump holds slots of a cache in place of positions (docs/selections.md), or that "
            "its layers or tokens are others than they are taken for."
        )
    if "rows_incomplete" in rows and rows["rows_incomplete"]["value"] > 0:
        found.append(f"{percent(rows['rows_incomplete']['value'])} of the rows that are to select every key miss one.")
    return found


def _share(row: Row) -> str:
    value, interval = percent_with_interval({**row, "share": row["value"]})
    unit = "\u202f%"
    return f"{value}{unit}" if interval == DASH else f"{value}{unit} (CI {interval}{unit})"


def _value(row: Row) -> str:
    places = decimals((known(row["ci_low"]), known(row["ci_high"])), row["value"])
    interval = span(row["ci_low"], row["ci_high"], places=places)
    return number(row["value"], places=places) + ("" if interval == DASH else f" (CI {interval})")


def draw(frames: Frames) -> list[Drawn]:
    """Agreement by layer, by layer and position, and differences by distance."""
    each, where, distances = map(frames.get, ("metrics", "parity_where", "parity_distances"))
    return [
        Drawn(
            "parity",
            "Selections beside the baseline's, by layer",
            "Share of rows whose selected keys are the baseline's, the same up to ties at the k-th score, and share of "
            "the baseline's keys that are selected. Bands: CI.",
            None if each is None else agreement_by_layer(each),
        ),
        Drawn(
            "parity-map",
            "Where selections are the baseline's",
            "By layer and query position; grey: no query in effect.",
            None if where is None else agreement_map(where),
        ),
        Drawn(
            "parity-distance",
            "Keys that one of the two alone selects",
            "By distance from the query, over all layers: missing ones are the baseline's alone, extra ones the "
            "dump's.",
            None if distances is None else differences_by_distance(distances),
        ),
    ]


def across(report: ReportInput) -> list[Drawn]:
    """Agreement of all dumps with the baseline."""
    dumps = {page.name: page.frame("parity", "metrics") for page in report.dumps}
    held = {name: frame for name, frame in dumps.items() if frame is not None}
    looks = {name: look(place) for place, name in enumerate(list(held)[:MOST])}
    caption = (
        "Share of the rows (queries of a layer, where the baseline leaves a key out) whose selected keys are the "
        f"baseline's, the same up to ties at the k-th score, and share of its keys that are selected. Bands: "
        f"{report.interval}."
    )
    return [Drawn("dumps", "Dumped selections beside the baseline's", caption, agreement(held, looks))]


def charts(frames: Frames) -> list[Chart]:
    """Agreement by layer and position, and differences by distance."""
    where, distances = frames.get("parity_where"), frames.get("parity_distances")
    found = []
    if where is not None:
        differing = where.with_columns(rows=1 - pl.col("rows_identical"), keys=1 - pl.col("overlap"))
        for column, title, about in (
            ("rows", "Where rows differ", "Share of rows whose keys are not the baseline's."),
            ("keys", "Where keys are missing", "Share of the baseline's keys that the dump does not select."),
        ):
            found.append(
                Chart(
                    title,
                    about,
                    "map",
                    by_position(differing, column),
                    x="layer",
                    y="position",
                    shade=column,
                    xlabel="layer",
                    ylabel="query position (tokens)",
                )
            )
    if distances is not None:
        rows = distances.filter(pl.col("layer").is_null()).sort("bin")
        parts = [rows.select("bin", "label", of=pl.lit(name), keys=name) for name in ("missing", "extra")]
        found.append(
            Chart(
                "Differing keys by distance",
                "Missing keys are the baseline's alone, extra ones the dump's; over all layers.",
                "line",
                chart_rows(pl.concat(parts), "of", "bin", "label", "keys"),
                x="bin",
                y="keys",
                series="of",
                labels="label",
                xlabel="distance (tokens)",
                ylabel="keys",
            )
        )
    return found


def tables(frames: Frames) -> list[TextTable]:
    """Numbers by layer, by distance, and the samples that part first."""
    return [*_layers(frames.get("metrics")), *_bins(frames.get("parity_distances")), *_samples(frames)]


def _layers(metrics: pl.DataFrame | None) -> list[TextTable]:
    if metrics is None:
        return []
    lines = []
    for (layer,), rows in metrics.sort("layer", nulls_last=False).group_by("layer", maintain_order=True):
        cells = {row["metric"]: row for row in rows.iter_rows(named=True)}
        texts = (_cell(cells.get(name)) for name in _BY_LAYER)
        lines.append(("all" if layer is None else str(layer), *texts, count(_most(cells))))
    heads = ("layer", *(label(name) for name in _BY_LAYER), "n (samples)")
    return [
        TextTable(
            "Selections beside the baseline's, by layer; keys are a row's, the gap in standard deviations",
            heads,
            tuple(lines),
        )
    ]


def _cell(row: Row | None) -> str:
    if row is None or known(row["value"]) is None:
        return DASH
    return percent(row["value"]) if row["unit"] == "share" else number(row["value"])


def _most(cells: Mapping[str, Row]) -> int:
    return max((row["n"] or 0 for row in cells.values()), default=0)


def _bins(distances: pl.DataFrame | None) -> list[TextTable]:
    if distances is None:
        return []
    rows = distances.filter(pl.col("layer").is_null())
    lines = tuple(
        (
            row["label"],
            *(count(row[name]) for name in ("selected", "missing", "extra")),
            DASH if row["missing_share"] is None else percent(row["missing_share"]),
        )
        for row in rows.iter_rows(named=True)
    )
    heads = ("distance (tokens)", "baseline's keys", "missing", "extra", "share missing")
    return [TextTable("Keys over all layers and queries in effect, by distance", heads, lines, open=False)]


def _samples(frames: Frames) -> list[TextTable]:
    matched = frames.get("parity_samples")
    parted = None if matched is None else matched.filter(pl.col("layer").is_not_null())
    if parted is None or parted.is_empty():
        return []
    rows = parted.sort("beyond_layer", "beyond_query", "layer", "query", "sample", nulls_last=True).head(_LISTED)
    lines = tuple(
        (
            plain(row["name"]),
            plain(row["record"]),
            count(row["compared"]),
            *(count(row[name]) for name in ("layer", "query", "distance")),
            *(count(row[f"beyond_{name}"]) for name in ("layer", "query", "distance")),
        )
        for row in rows.iter_rows(named=True)
    )
    heads = (
        *("sample", "record", "queries", "first layer", "position", "distance"),
        *("beyond ties: layer", "position", "distance"),
    )
    caption = f"Where samples part: {count(rows.height)} of {count(parted.height)}, those of the first layers first"
    return [TextTable(caption, heads, lines, open=False)]


def brief(frames: Frames) -> TextTable | None:
    """The metrics over all layers."""
    lines = tuple((label(name), row["unit"], *_texts(row), count(row["n"])) for name, row in _overall(frames).items())
    return (
        TextTable("selections beside the baseline's", ("metric", "unit", "value", "CI", "n"), lines) if lines else None
    )


def _texts(row: Row) -> tuple[str, str]:
    places = decimals((known(row["ci_low"]), known(row["ci_high"])), row["value"])
    return number(row["value"], places=places), span(row["ci_low"], row["ci_high"], places=places)


PANEL = Panel(
    analysis="parity",
    order=5,
    chapter="changed",
    title="Parity with the baseline's selections",
    about=(
        "These selections were made elsewhere. Each row, a query of a layer, is held against what the baseline selects "
        "at the same tokens. Equal scores leave open which keys are selected, so that differences at the k-th score "
        "alone are ties; rounding moves keys close to it; wrong scores, positions or layers move others too."
    ),
    headline=headline,
    words=words,
    draw=draw,
    tables=tables,
    across=across,
    charts=charts,
    brief=brief,
    json={
        "parity_where": (*("candidate", "layer", "bucket", "rows_identical", "rows_alike", "overlap", "queries", "n"),),
        "parity_distances": ("candidate", "layer", "label", "selected", "missing", "extra"),
        "parity_samples": (
            *("candidate", "sample", "name", "record", "tokens", "compared", "layer", "query", "distance"),
            *("beyond_layer", "beyond_query", "beyond_distance", "earliest_query", "earliest_layer"),
        ),
    },
)
