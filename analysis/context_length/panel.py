"""Where sparsity starts to lose recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from indexscope.analysis.context_length.figures import at_lengths_of_models, lengths_of_models, metrics_by_length
from indexscope.analysis.context_length.resampled import FOLLOWED, SKILL
from indexscope.analysis.metrics.registry import REGISTRY, label
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import count, decimals, number, span
from indexscope.analysis.report.overlaid import overlaid
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, TextTable
from indexscope.analysis.report.sentences import name_of, with_unit
from indexscope.analysis.report.spoken import with_interval
from indexscope.analysis.report.tables import compared

_SHOWN = ("selection_recall", "oracle_recall", "random_recall", SKILL, "output_error", "sparsity_cost")


#: What is tabled at the lengths that a study asks for.
_AT_LENGTHS = (*_SHOWN, "nll", "indexer_kl", "relative_cost", "indexer_flops")


def words(frames: Frames) -> Sequence[str]:
    """Where the selection begins to lose, over all layers; in which layers first; and what it keeps at each length."""
    return [*_onsets(frames), *_kept(frames)]


def _kept(frames: Frames) -> list[str]:
    """Recall at the shortest and the longest length that the study asks for."""
    rows = known_at_lengths(frames.get("at_lengths"), "selection_recall")
    if len(rows) < 2:
        return []
    first, last = rows[0], rows[-1]
    return [
        f"Of all queries of the first {count(first['length'])} tokens {label('selection_recall')} is "
        f"{with_interval(first)} (n = {count(first['n'])} samples); of {count(last['length'])} tokens it is "
        f"{with_interval(last)} (n = {count(last['n'])})."
    ]


def known_at_lengths(rows: pl.DataFrame | None, metric: str) -> list[dict[str, Any]]:
    """A metric over all layers at the lengths that the study asks for, shortest first, where it is known."""
    if rows is None:
        return []
    own = (pl.col("metric") == metric) & pl.col("layer").is_null() & pl.col("value").is_finite()
    return list(rows.filter(own).sort("length").iter_rows(named=True))


def _onsets(frames: Frames) -> Sequence[str]:
    if "onset" not in frames:
        selects = "lengths" in frames and "selection_recall" in set(frames["lengths"]["metric"])
        return ["The indexer leaves nothing out at any length measured: nothing can be lost."] if selects else []
    rows = frames["onset"]
    overall = list(rows.filter(pl.col("layer").is_null()).iter_rows(named=True))
    told = [_sentence(row) for row in overall if row["metric"] in FOLLOWED]
    layers = rows.filter((pl.col("metric") == SKILL) & pl.col("layer").is_not_null())
    found = layers.drop_nulls("length").sort("length", pl.col("loss"), descending=[False, True])
    if layers.height:
        text = f"By layer, a loss of skill is detected in {found.height} of {layers.height}"
        if found.height:
            first = found.row(0, named=True)
            text += f", first in layer {first['layer']} (from {count(first['length'])} tokens on)"
        told.append(text + ".")
    return told


def _sentence(row: Mapping[str, Any]) -> str:
    name, unit = name_of(str(row["metric"])), REGISTRY[row["metric"]].unit
    places = decimals((row["ci_low"], row["ci_high"]), row["loss"])
    interval = span(row["ci_low"], row["ci_high"], "", places, signed=True)
    change = (
        f"{with_unit(row['loss'], unit, places, signed=True)} (CI {interval}, n = {row['n']}) at "
        f"{count(row['longest'])} tokens compared with {count(row['first_length'])}, where it first leaves keys out"
    )
    if row["length"] is None:
        return (
            f"{name} shows no loss with length that lasts: the loss is {change}. That none was detected does "
            "not rule out one within the interval."
        )
    return f"{name} is detectably worse from {count(row['length'])} tokens on: the loss is {change}."


def draw(frames: Frames) -> list[Drawn]:
    """Recall, skill and sparsity cost over length."""
    from_on = onset(frames["onset"]) if "onset" in frames else None
    figure = metrics_by_length(frames["lengths"], from_on) if "lengths" in frames else None
    caption = (
        "Queries in the last power of two before each context length, over all layers; bands are confidence intervals "
        "from a bootstrap over samples. Recall counts queries in effect only."
    )
    return [Drawn("by-length", "Recall and cost by context length", caption, figure)]


def onset(frame: pl.DataFrame) -> int | None:
    """The length from which on skill over all layers is detectably lower, or None."""
    own = frame.filter((pl.col("metric") == SKILL) & pl.col("layer").is_null())["length"].drop_nulls()
    return int(own[0]) if own.len() else None


def across(report: ReportInput) -> list[Drawn]:
    """Recall and skill over length of all models."""
    onsets = {
        name: length
        for name, frame in report.frames("context_length", "onset").items()
        if (length := onset(frame)) is not None
    }
    figure = lengths_of_models(report.frames("context_length", "lengths"), onsets, overlaid(report))
    caption = (
        "Queries in the last power of two before each length, over all layers. Recall falls by itself, as the same k "
        "is a smaller share of the keys; skill is 0 for a random and 1 for the best choice of as many keys. Bands are "
        f"the {report.interval}; rings mark the length from which on skill is detectably lower."
    )
    found = [Drawn("context-length", "Attention kept by context length", caption, figure)]
    asked = report.frames("context_length", "at_lengths")
    if not asked:
        return found
    about = (
        "Each length is what a study of samples of that length measures: all queries of the first so many tokens, over "
        "the samples that have them. Longer contexts are harder for the same k, so that recall falls by itself; the "
        f"cost is relative to dense attention, by formula. Bands are the {report.interval}."
    )
    figure = at_lengths_of_models(asked, overlaid(report))
    return [Drawn("at-lengths", "Metrics at the study's lengths", about, figure), *found]


def tables(frames: Frames) -> Sequence[TextTable]:
    """The values of the figures: at the lengths that were asked for, and at powers of two."""
    asked = [table for table in (_asked(frames), _against(frames)) if table is not None]
    return [*asked, *_by_power(frames)]


def _asked(frames: Frames) -> TextTable | None:
    """The model's own metrics at the lengths that the study asks for."""
    rows = frames.get("at_lengths")
    found = {metric: known_at_lengths(rows, metric) for metric in _AT_LENGTHS}
    cells = {(metric, row["length"]): row for metric, own in found.items() for row in own}
    metrics = [metric for metric in _AT_LENGTHS if found[metric]]
    if not metrics:
        return None
    lines = [
        (
            count(length),
            *(_cell(cells.get((metric, length))) for metric in metrics),
            count(max(cells[place]["n"] or 0 for place in cells if place[1] == length)),
        )
        for length in sorted({length for _, length in cells})
    ]
    heads = ("length (tokens)", *map(label, metrics), "n (samples)")
    return TextTable("At the study's lengths, over all queries of the first so many tokens", heads, tuple(lines))


def _against(frames: Frames) -> TextTable | None:
    """Headline metrics beside the baseline's at each of those lengths."""
    rows = frames.get("compared_at_lengths")
    if rows is None:
        return None
    rows = rows.filter(pl.col("layer").is_null() & pl.col("metric").is_in(_AT_LENGTHS))
    lines = []
    for metric in (metric for metric in _AT_LENGTHS if metric in set(rows["metric"])):
        for row in rows.filter(pl.col("metric") == metric).sort("length").iter_rows(named=True):
            text = compared(row)
            values = (text.baseline, text.value, text.difference, text.interval, text.n)
            lines.append((label(metric), count(row["length"]), *values, text.judgement.word))
    heads = ("metric", "length (tokens)", "baseline", "candidate", "difference", "CI", "n (samples)", "reading")
    return TextTable("metrics at the study's lengths", heads, tuple(lines)) if lines else None


def brief(frames: Frames) -> TextTable | None:
    """A candidate beside the baseline at each length, or a model alone."""
    return _against(frames) or _asked(frames)


def _by_power(frames: Frames) -> Sequence[TextTable]:
    if "lengths" not in frames:
        return ()
    rows = frames["lengths"].filter(pl.col("layer").is_null() & pl.col("metric").is_in(_SHOWN))
    # Below, nothing is left out: what is there is 0 or not defined.
    first = rows.filter((pl.col("metric") == "selection_recall") & pl.col("value").is_finite())["length"].min()
    rows = rows.filter(pl.col("length") >= first) if first is not None else rows.clear()
    metrics = [metric for metric in _SHOWN if metric in set(rows["metric"])]
    cells = {(row["metric"], row["length"], row["kind"]): row for row in rows.iter_rows(named=True)}
    found = []
    for kind in ("up to", "at"):
        lines = [
            (count(length), *(_cell(cells.get((metric, length, kind))) for metric in metrics))
            for length in sorted(set(rows["length"]))
        ]
        what = "over all queries up to the length" if kind == "up to" else "over the last power of two alone"
        found.append(
            TextTable(
                f"By context length, {what}",
                ("length (tokens)", *(label(metric) for metric in metrics)),
                tuple(lines),
                open=False,
            )
        )
    return found if metrics else ()


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return number(None)
    return with_interval(row)


def charts(frames: Frames) -> list[Chart]:
    """Recall between its bounds and skill at each length, over all layers."""
    if "lengths" not in frames:
        return []
    at = (pl.col("kind") == "at") & pl.col("layer").is_null() & pl.col("value").is_finite()
    metrics = {metric: label(metric) for metric in _SHOWN[:4]}
    rows = frames["lengths"].filter(at & pl.col("metric").is_in(list(metrics)))
    order = pl.col("metric").replace_strict({name: place for place, name in enumerate(metrics)}, return_dtype=pl.Int32)
    rows = rows.sort("length", order)
    places = {length: place for place, length in enumerate(sorted(rows["length"].unique()))}
    return [
        Chart(
            "Attention kept by context length, between its bounds",
            "Queries in the last power of two before each length, over all layers. Bands are the intervals.",
            "line",
            rows.select(
                *("value", "ci_low", "ci_high"),
                pl.col("metric").replace(metrics),
                pl.col("length").cast(pl.String),
                place=pl.col("length").replace_strict(places, return_dtype=pl.Int32),
            ),
            x="place",
            xlabel="context length (tokens, log)",
            labels="length",
            y="value",
            ylabel="share, skill",
            series="metric",
        )
    ]


PANEL = Panel(
    analysis="context_length",
    order=30,
    chapter="misses",
    title="Context length",
    about=(
        "The model does not see the future, so that the queries up to a length are what a study of that length would "
        "measure. A loss counts from the first length on at which the interval of the difference from where the "
        "indexer first leaves keys out, paired by sample, lies above what matters (the metric's least margin) there "
        "and at every longer length. Recall falls and output error grows with length by themselves, since the same k "
        "is a smaller share of the keys: skill, which is held against chance and the best choice at the same length, "
        "tells whether the indexer is worse. Samples that are shorter than a length are not part of its comparison."
    ),
    words=words,
    draw=draw,
    tables=tables,
    charts=charts,
    brief=brief,
    across=across,
    json={
        "at_lengths": ("metric", "layer", "length", "value", "unit", "ci_low", "ci_high", "n"),
        "compared_at_lengths": (
            *("candidate", "metric", "length", "unit", "baseline", "value", "difference", "ci_low", "ci_high", "n"),
            "verdict",
        ),
    },
)
