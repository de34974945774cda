"""What the indexer does to the predictions: candidates against the baseline, every model against dense attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from indexscope.analysis.metrics.registry import label
from indexscope.analysis.output_divergence.figures import divergence, output_by_group
from indexscope.analysis.output_divergence.tables import LABELS
from indexscope.analysis.report.charting import chart_rows
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import DASH, count, decimals, known, number, percent, span
from indexscope.analysis.report.overlaid import looks
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, TextTable

Row = Mapping[str, Any]
_GROUPED = (
    "output_kl",
    "output_kl_median",
    "output_kl_p99",
    "probability_change_rms",
    "same_top_token",
    "perplexity_ratio",
)
_AXES = {"position": "query position (tokens)", "token class": "class of the next token"}
_CHARTED = {
    "Divergence": (
        "Nats between this model's next-token distribution and the baseline's.",
        [("baseline", "output_kl", "mean"), ("baseline", "output_kl_median", "median")],
    ),
    "Perplexity": (
        "Change in per cent from the baseline's perplexity, and from that of the model's own dense attention.",
        [
            ("baseline", "perplexity_ratio", "from the baseline's"),
            ("dense", "perplexity_ratio", "from that of dense attention"),
        ],
    ),
}
_AGAINST = {"baseline": "against the baseline", "dense": "against the model's own dense attention"}


def words(frames: Frames) -> list[str]:
    """What changed, in the order in which a reader asks."""
    found = []
    rows = _overall(frames, "baseline")
    if "output_kl" in rows and known(rows["output_kl"]["value"]) is not None:
        found += [_divergence(rows), _decisions(rows)]
        merged = known(rows["output_merged"]["value"])
        if merged:
            found.append(
                f"On average {percent(merged)} of the baseline's probability lies on tokens outside the likeliest of "
                "both models, which count as one: the divergence is a lower bound."
            )
    elif note := next((row["note"] for row in rows.values() if row["note"]), None):
        found.append(f"There is no divergence: {note}.")
    if "perplexity_ratio" in rows:
        found.append(f"Its perplexity is {_times(rows['perplexity_ratio'])} that of the baseline{_spread(rows)}.")
    dense = _overall(frames, "dense")
    if "perplexity_ratio" in dense:
        found.append(f"Its perplexity is {_times(dense['perplexity_ratio'])} that with all keys attended to.")
    return found


def _overall(frames: Frames, against: str) -> dict[str, Row]:
    frame = frames.get("output_divergence")
    if frame is None:
        return {}
    return {row["statistic"]: row for row in frame.filter(pl.col("against") == against).iter_rows(named=True)}


def _divergence(rows: Mapping[str, Row]) -> str:
    largest, high = (number(rows[name]["value"]) for name in ("output_kl_max", "output_kl_p99"))
    return (
        f"The next-token distribution diverges from the baseline's by {_banded(rows['output_kl'])} nats on average, "
        f"{_banded(rows['output_kl_median'])} in the median; after 99\u202f% of the queries it is at most {high}; "
        f"the largest seen is {largest} (n = {rows['output_kl']['n']} samples)."
    )


def _decisions(rows: Mapping[str, Row]) -> str:
    same, change = rows["same_top_token"], rows["probability_change_rms"]
    low, high = known(same["ci_low"]), known(same["ci_high"])
    interval = "" if low is None or high is None else f" (CI {percent(low)} to {percent(high)})"
    return (
        f"The likeliest token stays the same after {percent(same['value'])} of the queries{interval}; the true token's "
        f"probability changes by {number(100 * change['value'], places=2)} percentage points (root mean square)."
    )


def _spread(rows: Mapping[str, Row]) -> str:
    row = rows.get("log_perplexity_correlation")
    value = None if row is None else known(row["value"])
    return (
        ""
        if value is None
        else f"; over tokens, the log-perplexities correlate at {number(100 * value, places=2)}\u202f%"
    )


def _places(row: Row) -> int | None:
    return decimals((known(row["ci_low"]), known(row["ci_high"])), known(row["value"]))


def _banded(row: Row) -> str:
    interval = span(row["ci_low"], row["ci_high"], places=_places(row))
    return number(row["value"], places=_places(row)) + ("" if interval == DASH else f" (CI {interval})")


def _times(row: Row) -> str:
    interval = span(row["ci_low"], row["ci_high"], places=_places(row))
    value = number(row["value"], places=_places(row))
    return f"{value} times" if interval == DASH else f"{value} times (CI {interval}, n = {row['n']} samples)"


def draw(frames: Frames) -> list[Drawn]:
    """Divergence and perplexity by position and by class of the next token."""
    figure = None if "output_divergence_by" not in frames else output_by_group(frames["output_divergence_by"])
    caption = (
        "Bands and bars: CI. A ratio of 1 is no change. While no query has more keys than the indexer selects, sparse "
        "and dense attention are the same."
    )
    return [Drawn("predictions", "Predictions by position and by class of the next token", caption, figure)]


def across(report: ReportInput) -> list[Drawn]:
    """Divergence of all candidates, over queries and by position."""
    whole, groups = (report.frames("output_divergence", f"output_divergence{part}") for part in ("", "_by"))
    caption = (
        f"Divergence of next-token distributions from the baseline's after the same tokens; bands: {report.interval}. "
        "Left, what it is at most after that share of the queries. While no query has more keys than the indexer "
        "selects, models that differ in the indexer alone predict the same."
    )
    return [Drawn("output-divergence", "Divergence of predictions", caption, divergence(whole, groups, looks(report)))]


def charts(frames: Frames) -> list[Chart]:
    """Divergence and perplexity ratio by position and by class of the next token."""
    by = frames.get("output_divergence_by")
    return [] if by is None else [_chart(by, axis, what) for axis in _AXES for what in _CHARTED]


def _chart(by: pl.DataFrame, axis: str, what: str) -> Chart:
    kinds = pl.DataFrame(_CHARTED[what][1], schema=["against", "statistic", "of"], orient="row")
    rows = by.filter(pl.col("axis") == axis).join(kinds, on=["against", "statistic"]).sort("of", "bin")
    if what == "Perplexity":
        rows = rows.with_columns((pl.col("value", "ci_low", "ci_high") - 1) * 100)
    return Chart(
        f"{what} by {axis}",
        _CHARTED[what][0],
        "line" if axis == "position" else "dots",
        chart_rows(rows, "of", "bin", "label", "value"),
        x="bin",
        y="value",
        series="of",
        labels="label",
        xlabel=_AXES[axis],
    )


def tables(frames: Frames) -> list[TextTable]:
    """All statistics, and the main ones by position and by class."""
    found = []
    rows = [(against, row) for against in _AGAINST for row in _overall(frames, against).values()]
    if rows:
        lines = tuple(
            (
                label(row["statistic"], LABELS),
                _AGAINST[against],
                number(row["value"], places=_places(row)),
                row["unit"],
                span(row["ci_low"], row["ci_high"], places=_places(row)),
                count(row["n"]),
            )
            for against, row in rows
        )
        heads = ("statistic", "against", "value", "unit", "CI", "n (samples)")
        caption = "Next-token predictions; percentiles are over queries, weighted by the queries that each stands for"
        found.append(TextTable(caption, heads, lines, open=False))
    if (by := frames.get("output_divergence_by")) is not None:
        found += [table for axis in ("position", "token class") if (table := _by(by, axis)) is not None]
    return found


def _by(by: pl.DataFrame, axis: str) -> TextTable | None:
    rows = by.filter((pl.col("axis") == axis) & (pl.col("against") == "baseline"))
    if rows.is_empty():
        return None
    lines = []
    for (_, group), own in rows.group_by("bin", "label", maintain_order=True):
        cells = {row["statistic"]: row for row in own.iter_rows(named=True)}
        texts = (
            number(cells[name]["value"], places=_places(cells[name])) if name in cells else DASH for name in _GROUPED
        )
        mean = cells.get("output_kl")
        interval = DASH if mean is None else span(mean["ci_low"], mean["ci_high"], places=_places(mean))
        first, *rest = texts
        lines.append((str(group), first, interval, *rest, count(max(row["n"] for row in cells.values()))))
    heads = (
        "next token" if axis == "token class" else "query",
        *("KL (nats)", "CI", "median", "99\u202f%", "RMS Δp", "same top token", "perplexity ratio", "n (samples)"),
    )
    return TextTable(f"Against the baseline, by {axis}", heads, tuple(lines), open=False)


def brief(frames: Frames) -> TextTable | None:
    """Statistics of one candidate against the baseline."""
    rows = tuple(
        (
            label(name, LABELS),
            row["unit"],
            number(row["value"], places=_places(row)),
            span(row["ci_low"], row["ci_high"], places=_places(row)),
            count(row["n"]),
        )
        for name, row in _overall(frames, "baseline").items()
        if known(row["value"]) is not None
    )
    title = "next-token predictions against the baseline"
    return TextTable(title, ("statistic", "unit", "value", "CI", "n"), rows) if rows else None


_VALUES = ("statistic", "unit", "value", "ci_low", "ci_high", "n")
PANEL = Panel(
    analysis="output_divergence",
    order=20,
    chapter="changed",
    title="Output divergence",
    about=(
        "Next-token distributions after the same tokens, in the terms of llama.cpp's KL-divergence report: KL is the "
        "divergence of this model's distribution from the baseline's, Δp the change of the true token's probability. "
        "The sampled queries count, each weighted by the queries that it stands for; perplexity ratios are over all "
        "tokens, but by class of the next token over the sampled queries too. Intervals resample samples."
    ),
    words=words,
    draw=draw,
    tables=tables,
    across=across,
    charts=charts,
    brief=brief,
    json={
        "output_divergence": ("model", "against", *_VALUES, "note"),
        "output_divergence_by": ("model", "against", "axis", "label", *_VALUES),
    },
)
