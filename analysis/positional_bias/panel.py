"""Positional bias in figures and words: against noise, by its parts, and against the attention's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from indexscope.analysis.metrics.registry import label
from indexscope.analysis.positional_bias.figures import lift_curves, lift_map
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import count, decimals, number, percent, span
from indexscope.analysis.report.overlaid import overlaid
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, TextTable

_PARTS = (
    ("recency_bias", "the 32 nearest keys"),
    ("oldest_bias", "the oldest tenth (sinks)"),
    ("other_bias", "all other keys"),
)
#: Powers of two at which the map of lifts ends.
_POWERS = 4
_COLUMNS = (
    "positional_bias",
    "positional_bias_floor",
    "recency_bias",
    "oldest_bias",
    "other_bias",
    "attention_positional_bias",
    "excess_bias",
    "recency_lift",
    "oldest_lift",
)


def words(frames: Frames) -> Sequence[str]:
    """How large the bias is against noise, where it comes from, and whether the attention has it too."""
    if "metrics" not in frames:
        return ()
    rows = frames["metrics"].filter(pl.col("layer").is_null() & pl.col("value").is_finite())
    found = {row["metric"]: row for row in rows.iter_rows(named=True)}
    told = []
    if "positional_bias" in found and "positional_bias_floor" in found:
        bias, floor = found["positional_bias"], found["positional_bias_floor"]["value"]
        shown = number(floor, places=decimals((bias["ci_low"], bias["ci_high"]), bias["value"]))
        start = f"The selection's bias is {_bits(bias)}; a random selector with these counts would show {shown}"
        none = bias["ci_low"] is not None and bias["ci_low"] <= floor
        told.append(f"{start} by noise alone, so that {'no preference is' if none else 'a preference is'} detected.")
        if all(name in found for name, _ in _PARTS) and bias["value"] > 0 and not none:
            parts = [
                f"{_bits(found[name])} from {what} ({percent(found[name]['value'] / bias['value'])})"
                for name, what in _PARTS
            ]
            told.append(f"Of it come {parts[0]}, {parts[1]} and {parts[2]}.")
        told += [
            f"{what}: selected {_times(found[metric])} as often as by chance, with "
            f"{_times(found[f'attention_{metric}'])} the attention of an even spread."
            for metric, what in (
                ("recency_lift", "The 32 nearest keys"),
                ("oldest_lift", "The oldest tenth of the keys"),
            )
            if metric in found and f"attention_{metric}" in found
        ]
    if "attention_positional_bias" in found:
        text = f"The attention's own bias is {_bits(found['attention_positional_bias'])}"
        if "excess_bias" in found:
            text += f"; the selection's lift differs from the attention's by {_bits(found['excess_bias'])}"
        told.append(text + ".")
    return told


def _bits(row: Mapping[str, Any]) -> str:
    return f"{_number(row)} bits"


def _times(row: Mapping[str, Any]) -> str:
    return f"{_number(row)} times"


def _number(row: Mapping[str, Any]) -> str:
    places = decimals((row["ci_low"], row["ci_high"]), row["value"])
    interval = span(row["ci_low"], row["ci_high"], "", places)
    shown = f" ({interval})" if row["ci_low"] is not None else ""
    return number(row["value"], "", places) + shown


def tables(frames: Frames) -> Sequence[TextTable]:
    """The same numbers for every layer."""
    if "metrics" not in frames:
        return ()
    rows = frames["metrics"].filter(pl.col("layer").is_not_null())
    cells = {(row["metric"], row["layer"]): row for row in rows.iter_rows(named=True)}
    columns = [metric for metric in _COLUMNS if any(name == metric for name, _ in cells)]
    layers = sorted(set(rows["layer"]))
    lines = [
        (
            str(layer),
            *(_cell(cells[metric, layer], cells) if (metric, layer) in cells else number(None) for metric in columns),
        )
        for layer in layers
    ]
    heads = ("layer", *(label(metric) for metric in columns))
    return [TextTable("Positional bias by layer (CI)", heads, tuple(lines), open=False)] if lines else ()


def _cell(row: Mapping[str, Any], cells: Mapping[tuple[str, int], Mapping[str, Any]]) -> str:
    """A value with its interval; the floor, which has none, with as many digits as the bias that is held against it."""
    bias = cells.get(("positional_bias", row["layer"]))
    if row["metric"] != "positional_bias_floor" or bias is None:
        return _number(row)
    return number(row["value"], places=decimals((bias["ci_low"], bias["ci_high"]), bias["value"]))


def across(report: ReportInput) -> list[Drawn]:
    """The lift of all models."""
    models = overlaid(report)
    lifts = {name: frame for name, frame in report.frames("positional_bias", "lift").items() if name in models}
    selects = [name for name, frame in lifts.items() if frame["lift"].count()]
    parts = ["How many times as often keys are selected as by a random choice of as many."] if selects else []
    if len(selects) < len(lifts):
        whose = "Of models without an indexer: the attention" if selects else "The attention"
        parts.append(f"{whose} that keys get, over that of an even spread.")
    caption = " ".join([*parts, f"1: no preference. Bands are the {report.interval}."])
    title = "Positional bias of the selection" if selects else "Positional bias of the attention"
    return [Drawn("lift", title, caption, lift_curves(lifts, models))]


def draw_lift(frames: Frames) -> list[Drawn]:
    """Lift by layer and distance."""
    caption = "Green: selected more often than exposure alone would give; purple: less often; white: as expected."
    figure = lift_map(frames["lift"]) if "lift" in frames else None
    return [Drawn("liftmap", "Positional bias by layer", caption, figure)]


@dataclass(frozen=True)
class _Side:
    """Columns of the table of lifts: of the selection, or of the attention."""

    value: str
    ends: tuple[str, str]
    heads: tuple[str, ...]
    about: str
    counted: bool = False

    def cells(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """Value and interval, and what is counted."""
        low, high = (row[name] for name in self.ends)
        places = decimals((low, high), row[self.value])
        shown = number(row[self.value], "", places), span(low, high, "", places)
        return (*shown, count(row["selections"])) if self.counted else shown


_SIDES = (
    _Side(
        *("lift", ("ci_low", "ci_high"), ("lift", "CI", "selections")),
        about="selections over those of a random choice of as many keys",
        counted=True,
    ),
    _Side(
        *("attention_lift", ("attention_ci_low", "attention_ci_high"), ("attention lift", "CI")),
        about="attention over an even spread",
    ),
)


def tables_of_lift(frames: Frames) -> list[TextTable]:
    """Lift by distance over all layers."""
    if "lift" not in frames:
        return []
    rows = frames["lift"].filter((pl.col("axis") == "distance") & pl.col("layer").is_null()).sort("bin")
    if rows.is_empty():
        return []
    sides = [side for side in _SIDES if rows[side.value].count()]
    lines = [
        (str(row["label"]), *(cell for side in sides for cell in side.cells(row)), count(row["n"]))
        for row in rows.iter_rows(named=True)
    ]
    caption = f"Over all layers: {', '.join(side.about for side in sides)}; 1 is no bias. CI: bootstrap over samples"
    heads = ("distance (tokens)", *(head for side in sides for head in side.heads), "n (samples)")
    return [TextTable(caption, heads, tuple(lines))]


def chart_lift(frames: Frames) -> list[Chart]:
    """Lift by distance of a layer."""
    if "lift" not in frames:
        return []
    rows = frames["lift"].filter((pl.col("axis") == "distance") & pl.col("layer").is_not_null())
    selects = rows["lift"].count() > 0
    if not selects:
        rows = rows.with_columns(lift="attention_lift", ci_low="attention_ci_low", ci_high="attention_ci_high")
    rows = rows.filter(pl.col("lift").is_finite()).sort("layer", "bin")
    if rows.is_empty():
        return []
    what = "Selections over those of a random choice of as many keys" if selects else "Attention over an even spread"
    return [
        Chart(
            "Positional bias by layer",
            f"{what}, in powers of two: 0 is as often, 1 twice, −1 half as often. What lies beyond {_POWERS} is "
            "coloured as that.",
            "map",
            rows.sort("bin", "layer").select(
                *("layer", "bin", "label", "lift"), powers=pl.col("lift").log(2).clip(-_POWERS, _POWERS)
            ),
            x="bin",
            xlabel="distance from query to key (tokens)",
            labels="label",
            y="layer",
            ylabel="layer",
            shade="powers",
            middle=0.0,
            digits=3,
        ),
        Chart(
            "Positional bias of the layer",
            f"{what}: 1 is no bias. The band is the interval.",
            "line",
            rows.select("layer", "bin", "label", "lift", "ci_low", "ci_high", "n"),
            x="bin",
            xlabel="distance from query to key (tokens)",
            labels="label",
            y="lift",
            ylabel="lift",
            log=True,
        ),
    ]


BIAS = Panel(
    "positional_bias",
    10,
    "selects",
    "Positional bias",
    draw=draw_lift,
    tables=tables_of_lift,
    charts=chart_lift,
    across=across,
)
PARTS = Panel(
    analysis="positional_bias",
    order=15,
    chapter="selects",
    title="Positional bias and its parts",
    about=(
        "Bias: the mean |log2| of the lift by distance, which is selections over those of a random choice of as many "
        "keys, or attention over an even spread; 1 bit is a factor of two, and a random selector is not at 0 but at "
        "its floor. The parts add up to the whole. Brackets hold confidence intervals from a bootstrap over samples."
    ),
    words=words,
    tables=tables,
)
